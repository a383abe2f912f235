"""The settings floor: one sidecar's file, and the allow-lists it names, read and judged in one go.

schema      the values: `Settings` and its parts, frozen, with their defaults
read        a parsed TOML file -> `Settings`, or every fault in it; pure
observing   its tables about traces and what is told; pure
limits      the part of it that says what a listener bears, read and told back; pure
load        the shell: opens the files, judges who may write them, brings settings and policies together
"""
