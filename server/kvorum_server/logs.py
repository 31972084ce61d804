"""Structured logs of a node, on standard error: coloured lines for people, or JSON for machines.

What is logged is decided elsewhere: the Host returns its transitions as data
(``events.Transition``) and the shell prints them here. Nothing is logged per request. Times are
UTC in ISO 8601.
"""

import logging
import sys

import structlog

from kvorum_server.config import Config


def configure(config: Config) -> None:
    """Sets format and level for the whole process."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if config.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[config.log_level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
