"""The web page: its sessions, its layout, and its server."""
