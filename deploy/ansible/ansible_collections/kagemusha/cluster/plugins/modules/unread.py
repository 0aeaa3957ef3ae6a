#!/usr/bin/python
"""Whether a unit goes by what is in its files now. Reads only; needs nothing but Python's own library, as root."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unread
short_description: Whether files of a unit are newer than what the unit has read
description:
  - Compares when files were changed with when a unit of systemd was started, or told to read them again. What one run
    has written and did not live to tell, the next one sees. Changes nothing.
author:
  - the kagemusha authors
options:
  unit:
    description: Name of the unit.
    type: str
    required: true
  files:
    description: What it reads. One that is not there is none.
    type: list
    elements: str
    default: []
  since:
    description: What makes it read them, its start alone or a reload as well.
    type: str
    choices: [start, reload]
    default: reload
  directory:
    description: Where its executable must be from; anywhere, if it is empty.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: See whether keepalived has read its settings
  kagemusha.cluster.unread:
    unit: keepalived.service
    files: [/etc/keepalived/keepalived.conf]
  register: seen
"""

RETURN = r"""
active:
  description: Whether it runs.
  type: bool
  returned: always
unread:
  description: Whether it has run, and goes by what its files were before, or by another executable.
  type: bool
  returned: always
newer:
  description: The files that it has not read.
  type: list
  returned: always
executable:
  description: What its main process was started as; empty where there is none.
  type: str
  returned: always
"""

import datetime
import os
import subprocess

PROPERTIES = {"start": "ExecMainStartTimestamp", "reload": "StateChangeTimestamp"}
_TIME = "%Y-%m-%d %H:%M:%S.%f"


def properties(text):
    """What `systemctl show` says, by name."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def seconds(timestamp):
    """Of "Mon 2026-11-30 19:48:10.123456 UTC", since 1970; None for a time that never was."""
    parts = timestamp.split(" ", 1)
    if len(parts) < 2:
        return None
    moment = datetime.datetime.strptime(parts[1].replace(" UTC", ""), _TIME)
    return moment.replace(tzinfo=datetime.UTC).timestamp()


def changed_s(path):
    """When a file was written or put in its place, seconds since 1970; 0 for one that is not there."""
    try:
        return os.stat(path).st_ctime
    except OSError:
        return 0.0


def executable(pid):
    """The first word of a process's command line; "" where there is no such process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read().split(b"\0", 1)[0])
    except OSError:
        return ""


def judged(shown, files, since, directory):
    """What the module returns. shown: properties of the unit."""
    read_s = seconds(shown.get(PROPERTIES[since], ""))
    has_run = read_s is not None and shown.get("ConditionResult") == "yes"
    newer = [path for path in files if has_run and changed_s(path) > read_s]
    active = shown.get("ActiveState") == "active"
    started_as = executable(shown.get("MainPID")) if active else ""
    elsewhere = bool(active and directory) and not started_as.startswith(directory.rstrip("/") + "/")
    return {"active": active, "unread": bool(newer) or elsewhere, "newer": newer, "executable": started_as}


def main():
    """Look, for Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "str", "default": []},
            "since": {"type": "str", "choices": ["start", "reload"], "default": "reload"},
            "directory": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    names = ["ActiveState", "ConditionResult", "MainPID", PROPERTIES[given["since"]]]
    command = ["systemctl", "show", "--timestamp=us+utc", "--property=" + ",".join(names), "--", given["unit"]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = judged(properties(done.stdout), given["files"], given["since"], given["directory"])
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        module.fail_json(msg="can't tell what {} has read: {}".format(given["unit"], error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
