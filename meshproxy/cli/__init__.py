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

policy/     policy and what is below it, a room for each
audits      audit verify, query, head
reading     long files, line by line, with a progress bar

passphrase  where a passphrase may come from
terminal    what all commands share: failing, problems, JSON, colour
"""
