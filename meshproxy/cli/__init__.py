"""The commands a person types; the top floor.

main        the command `meshproxy`, its table of commands, imported when called
operate     run, check, status
authority   ca init, ca issue
service     ca serve
rotation    ca rotate
tokens      ca token
revocation  ca revoke
bundles     ca bundle
records     ca list, log, publish, backup, restore, doctor
opening     what the commands of the CA share
identity    inspect

policies    policy, the group of those that follow
explaining  policy explain
checking    policy check
trying      policy test
differing   policy diff
replays     policy replay
learner     policy learn
usage       policy report
auditing    policy who-can, what-can
graphing    policy graph
allow_lists what they share: reading lists and directories of them, completing identities
recorded    and logs

passphrase  where a passphrase may come from
terminal    what all commands share: failing, problems, JSON, colour
"""
