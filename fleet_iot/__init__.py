"""The import root of the `fleet` tool: its four programs, installed under one name.

In the repository `generator`, `lib`, `operations` and `sensor_processor` are links to the top-level folders; a wheel
holds their files.
"""
