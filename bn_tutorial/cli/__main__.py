"""``python -m bn_tutorial.cli`` is ``bn-tutorial``."""

from bn_tutorial.cli.app import main

main()
