"""Where the demo's bars come from: a person's file, the public archive, or a synthetic market."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from acmf_cli.progress import ProgressBars
from acmf_core.config import Config
from acmf_core.domain import BARS_PER_DAY, DAY_US
from acmf_core.errors import VenueUnavailable

if TYPE_CHECKING:
    from acmf_core.lake import Lake

ARCHIVE_DAYS = 730
SYNTHETIC_DAYS = 500
SYNTHETIC_SEED = 2020
OFFER = "your own bars: make demo CANDLES=bars.parquet; a made-up market: make demo SYNTHETIC=1"
Say = Callable[[str], None]


@dataclass(frozen=True)
class BarSource:
    """Fills a lake with bars; `home` keeps downloads until they are in."""

    config: Config
    lake: "Lake"
    home: Path
    quiet: bool

    def fill(self, *, candles: Path | None, funding: Path | None, synthetic: bool, say: Say) -> str:
        """Bring the bars in; returns the symbol under which they lie.

        Raises
        ------
        DataError
            The file cannot be used.
        VenueUnavailable
            The archive cannot be reached, and nobody chose the synthetic market instead.
        """
        if candles is not None:
            return self._imported(candles, funding, say)
        if synthetic:
            return self._synthesised()
        return self._pulled()

    def _imported(self, candles: Path, funding: Path | None, say: Say) -> str:
        from acmf_core.collect.files.importer import read_candles, read_funding
        from acmf_core.collect.history import warmup_bars
        from acmf_core.lake.tables import candle_rows, funding_rows

        symbol = self.config.market.symbol
        read = read_candles(candles, min_bars=warmup_bars())
        paid = read_funding(funding) if funding is not None else None
        say(f"{candles.name}: " + ", ".join(f"{ours} <- {theirs}" for ours, theirs in read.mapping.items()))
        for note in read.notes:
            say(note)
        self.lake.merge("candles", candle_rows(read.frame, symbol), source=candles.name)
        if paid is not None and funding is not None:
            self.lake.merge("funding", funding_rows(paid.frame, symbol), source=funding.name)
        return symbol

    def _pulled(self) -> str:
        from acmf_core.collect.archive.client import Archive
        from acmf_core.collect.pull.series import pull_candles, pull_funding
        from acmf_core.execution.clock import SystemClock
        from acmf_core.lake.merging import as_stamp

        symbol, sources, now = self.config.market.symbol, self.config.sources, SystemClock().now()
        since, until = (as_stamp(t).floor("D") for t in (now - ARCHIVE_DAYS * DAY_US, now))
        archive = Archive(
            sources.archive_base_url,
            self.home / "archive",
            connections=sources.archive_connections,
            timeout_s=sources.archive_timeout_s,
        )
        try:
            with archive, ProgressBars(quiet=self.quiet) as bars:
                pull_candles(self.lake, archive, symbol, since, until, progress=bars.report)
                pull_funding(self.lake, archive, symbol, since, until, progress=bars.report)
        except VenueUnavailable as error:
            if not self._chose_synthetic(error):
                raise VenueUnavailable(error.cause, OFFER) from error
            return self._synthesised()
        return symbol

    def _chose_synthetic(self, error: VenueUnavailable) -> bool:
        """Ask the person in front of the terminal, if there is one."""
        if self.quiet or not sys.stdin.isatty():
            return False
        click.echo(f"acmf: {error.cause}; {OFFER}", err=True)
        return click.confirm("Run on the synthetic market now?", err=True)

    def _synthesised(self) -> str:
        from acmf_core.collect.synthetic import SYMBOL, store_synthetic, synthetic_market

        store_synthetic(self.lake, synthetic_market(SYNTHETIC_DAYS * BARS_PER_DAY, SYNTHETIC_SEED))
        return SYMBOL
