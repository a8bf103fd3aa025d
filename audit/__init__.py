"""Known vulnerabilities of all that is locked: ``make audit``. It asks services on the network; CI does not run it."""
