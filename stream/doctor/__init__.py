"""
What `stream doctor` looks at, and what it makes of it.

`looking` and `kafka` find out, `on_settings`, `on_broker` and `on_others` judge what was found, `examination` has one
follow the other, and `report` shows it.
"""
