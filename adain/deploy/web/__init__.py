"""The web page: the service that stylizes, the layout of the page, and the server."""
