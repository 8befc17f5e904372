"""The AWS Lambda REST API, a module per resource. ``invoke`` is the hot one; ``app`` routes the rest."""
