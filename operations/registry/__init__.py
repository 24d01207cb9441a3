"""Manage devices in AWS IoT, journalled: onboard, rotate, move, revoke, retire and bundle."""
