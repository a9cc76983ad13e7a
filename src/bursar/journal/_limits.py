"""Every bound of a journal, named."""

from dataclasses import dataclass

from bursar.journal._format import GROUP_OVERHEAD_BYTES, HEADER_BYTES, RECORD_OVERHEAD_BYTES

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class JournalLimits:
    """Sizes in bytes. A worker's journal takes `(reserve_segments + 2) * segment_bytes` from the start (24 MiB)."""

    segment_bytes: int = 8 * MIB
    """One file. Space is given back in whole ones."""
    segments_max: int = 128
    """How much may wait for the database, reserve and spare included (1 GiB)."""
    reserve_segments: int = 1
    """Preallocated and kept for those who append with `reserve=True`."""
    group_bytes_max: int = 1 * MIB
    """The most that is written at once. The end of a segment may stay empty by this much."""
    record_bytes_max: int = 64 * KIB
    """One payload."""
    linger_seconds: float = 0.05  # duration, not money
    """How long a record that nobody waits for may wait for company."""
    busy_records_per_second: int = 3_000
    """From so many on (1,500 requests/s) a sync costs more than the wait for company. One client that asks again as soon as it is answered
    makes 2,000, and would wait in vain."""
    busy_linger_seconds: float = 0.001  # duration, not money
    """How long the records of a busy journal wait for others, though somebody waits for them; uvloop's timers know no less."""
    retry_seconds: float = 1.0  # duration, not money
    """How often a full disk is asked for another segment."""

    def __post_init__(self) -> None:
        if self.busy_records_per_second < 0:
            raise ValueError("busy_records_per_second must not be negative")
        if min(self.record_bytes_max, self.reserve_segments) < 1:
            raise ValueError("a journal needs room for a record and at least one reserve segment")
        if self.group_bytes_max < self.record_bytes_max + RECORD_OVERHEAD_BYTES + GROUP_OVERHEAD_BYTES:
            raise ValueError("group_bytes_max must hold the largest record")
        if self.segment_bytes < HEADER_BYTES + 2 * self.group_bytes_max:
            raise ValueError("segment_bytes must hold two groups")
        if self.segments_max < self.reserve_segments + 2:
            raise ValueError("segments_max must hold the reserve, a spare and the segment in use")
