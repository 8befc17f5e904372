"""``python -m tests.benchmark``."""

from .run import main

raise SystemExit(main())
