"""The faults that ci/mutants plants: where, how, and who has to find each of them.

A fault replaces a piece of a source file that must occur there exactly once; `@` stands for "this fault is chosen".
The finder is an operation of ci/step, the loom models, a test program of the core with words that choose its tests, or
real servers that scrape every format.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """What is planted, what it replaces, and who has to find it."""

    what: str
    file: str
    find: str
    put: str
    finder: tuple[str, ...]


def step(operation: str, size: int = 1) -> tuple[str, ...]:
    """Name an operation of ci/step as the finder."""
    return ("step", "--first", "--size", str(size), operation)


LOOM = ("loom",)

PUT_VALUE = "slot.value.store(value.to_bits(), Ordering::Relaxed); // ordered by the store below\n"
PUT_META = "    slot.meta.store(packed | of_lap, Ordering::Release); // partner: the acquire load in `peek`\n"
WHOLE_STEP = "step(redo, FIRST_WORD, place, position, index, words);"
STORE_WHOLE = "cell.a.store(words.a, Ordering::Relaxed); // as in `store_cell`"
EVENT_STEP = "step(&segment.header().redo, EVENT, place, position, target.cell, words);"
FOLD_STEP = "step(redo, FOLD, place, u64::from(gauge), plan.cell, words);"

PLANTED = [
    # The ring.
    Fault(
        "push: meta before value",
        "ring.rs",
        PUT_VALUE,
        "if @ { slot.meta.store(packed | of_lap, Ordering::Release); }\n" + PUT_VALUE,
        step("observe"),
    ),
    Fault(
        "push: the slot is published relaxed",
        "ring.rs",
        PUT_META,
        "slot.meta.store(packed | of_lap, if @ { Ordering::Relaxed } else { Ordering::Release });\n",
        LOOM,
    ),
    Fault(
        "take: the slot is read relaxed",
        "ring.rs",
        "let meta = slot.meta.load(Ordering::Acquire);",
        "let meta = slot.meta.load(if @ { Ordering::Relaxed } else { Ordering::Acquire });",
        LOOM,
    ),
    Fault(
        "ring: the parity does not flip at the wrap",
        "ring.rs",
        "if (position / RING_SLOTS as u64) & 1 == 0 {",
        "if @ || (position / RING_SLOTS as u64) & 1 == 0 {",
        step("push, end of a lap"),
    ),
    Fault(
        "ring: the tail scan is off by one",
        "ring.rs",
        "        tail = tail.wrapping_add(1);\n    }\n    tail\n",
        "        tail = tail.wrapping_add(1);\n    }\n    tail + u64::from(@)\n",
        step("push, empty ring"),
    ),
    Fault(
        "worker: a full ring takes one more",
        "worker.rs",
        "(RING_SLOTS as u64 - pending).min(64)",
        "(RING_SLOTS as u64 - pending).min(64) + u64::from(@)",
        step("direct add, lock held"),
    ),
    # The drain and its redo record.
    Fault(
        "redo: one entry for all events",
        "drain.rs",
        "    let entry = &redo.entry[(position & 1) as usize];\n    entry.cell.store",
        "    let entry = &redo.entry[if @ { 0 } else { (position & 1) as usize }];\n    entry.cell.store",
        step("drain, 10 events"),
    ),
    Fault(
        "redo: the commit before the entry",
        "drain.rs",
        "    entry.cell.store(u64::from(cell), Ordering::Relaxed); // ordered by the commit\n",
        "    if @ { redo.commit.store("
        "(kind << KIND_SHIFT) | ((place as u64) << PLACE_SHIFT) | (position & POSITION_MASK),"
        " Ordering::Release); fence(Ordering::SeqCst); }\n"
        "    entry.cell.store(u64::from(cell), Ordering::Relaxed);\n",
        step("drain, 10 events"),
    ),
    Fault(
        "redo: none is written",
        "drain.rs",
        WHOLE_STEP,
        "if !@ { " + WHOLE_STEP + " }",
        step("drain, 10 events"),
    ),
    Fault(
        "redo: none is written for an observation",
        "drain.rs",
        EVENT_STEP,
        "if !@ { " + EVENT_STEP + " }",
        step("drain, 1 event"),
    ),
    Fault(
        "redo: cleared before the cell is stored",
        "drain.rs",
        STORE_WHOLE,
        "if @ { redo.commit.store(0, Ordering::Release); fence(Ordering::SeqCst); }\n" + STORE_WHOLE,
        step("drain, 10 events"),
    ),
    Fault(
        "redo: a whole amount names both words",
        "drain.rs",
        "FIRST_WORD, place, position, index, words",
        "if @ { EVENT } else { FIRST_WORD }, place, position, index, words",
        step("drain, fractions"),
    ),
    Fault(
        "drain: the head before the cells",
        "drain.rs",
        STORE_WHOLE,
        "if @ { header.head.store(position, Ordering::Release); fence(Ordering::SeqCst); }\n" + STORE_WHOLE,
        step("drain, 10 events"),
    ),
    Fault(
        "drain: cells that are younger than the loop are not seen",
        "drain.rs",
        "None => self.apply(place, position, &event, header),",
        "None if @ && whole.is_some() => self.count(|c| &c.corrupt_events, 1),\n"
        "                None => self.apply(place, position, &event, header),",
        step("drain, new cells meanwhile"),
    ),
    Fault(
        "drain: the head is not stored behind a corrupt event",
        "drain.rs",
        "            header.head.store(position, Ordering::Release); // partner: `Worker::pending`\n"
        "            fence(Ordering::Release); // as behind a batch",
        "            if !@ { header.head.store(position, Ordering::Release); }\n"
        "            fence(Ordering::Release); // as behind a batch",
        step("drain, a corrupt event"),
    ),
    Fault(
        "recover: amounts are added, not set",
        "drain.rs",
        "                        store_cell(cell, record.new_words(Words::of(cell)));\n",
        "                        let old = Words::of(cell);\n"
        "                        store_cell(cell, if @ { old.counter_plus(1.0) } else { record.new_words(old) });\n",
        step("drain, 10 events"),
    ),
    Fault(
        "recover: the head stays behind",
        "drain.rs",
        "header.head.store(head.wrapping_add(distance), Ordering::Release);",
        "if !@ { header.head.store(head.wrapping_add(distance), Ordering::Release); }",
        step("drain, 10 events"),
    ),
    Fault(
        "recover: a record that is done is done again",
        "drain.rs",
        "(1..=RING_SLOTS as u64).contains(&distance)",
        "(u64::from(!@)..=RING_SLOTS as u64).contains(&distance)",
        step("reap and fold gauges"),
    ),
    Fault(
        "recover: it is not called",
        "drain.rs",
        "            recover(self.segment);\n",
        "            if !@ { recover(self.segment); }\n",
        step("drain, 10 events"),
    ),
    Fault(
        "fold: no redo record",
        "drain.rs",
        FOLD_STEP,
        f"if !@ {{ {FOLD_STEP} }}",
        step("reap and fold gauges"),
    ),
    Fault(
        "fold: the worker's cell is cleared first",
        "drain.rs",
        "            let Some(dead) = Stamped::read(&cell.value, &cell.stamp) else { continue };\n",
        "            let Some(dead) = Stamped::read(&cell.value, &cell.stamp) else { continue };\n"
        "            if @ { cell.stamp.store(0, Ordering::Release); }\n",
        step("reap and fold gauges"),
    ),
    Fault(
        "reap: gauges are forgotten",
        "drain.rs",
        "        self.fold_gauges(place);\n",
        "        if !@ { self.fold_gauges(place); } else { for (_, cell) in worker::gauge_cells(self.segment, place)"
        " { cell.stamp.store(0, Ordering::Release); } }\n",
        ("test", "gauge_modes"),
    ),
    Fault(
        "remove: said to be zero before it is",
        "drain.rs",
        "            if let Some(cells) = self.plans.cells(self.segment, *id) {\n",
        "            if @ { registry::hidden(self.segment, *id); }\n"
        "            if let Some(cells) = self.plans.cells(self.segment, *id) {\n",
        step("remove, revive, count"),
    ),
    Fault(
        "expire: no second look behind the draining",
        "drain.rs",
        "if self.counts(*id) != Some(*counts) {",
        "if !@ && self.counts(*id) != Some(*counts) {",
        step("expire while another counts"),
    ),
    Fault(
        "expire: a dead one's half is drained over",
        "drain.rs",
        "    if segment.header().expiring.load(Ordering::Acquire) != 0 {",
        "    if !@ && segment.header().expiring.load(Ordering::Acquire) != 0 {",
        step("expire while another counts"),
    ),
    Fault(
        "expire: what is not decided is zeroed by who asks for it",
        "drain.rs",
        "            if registry::resume(self.segment, *id) ||",
        "            if !@ && registry::resume(self.segment, *id) ||",
        step("expire while another counts"),
    ),
    Fault(
        "expire: counted while it was hidden, never brought back",
        "expiry.rs",
        "if registry::is_removed(segment, id) && !counts.are_none() {",
        "if !@ && registry::is_removed(segment, id) && !counts.are_none() {",
        step("expire while another counts"),
    ),
    Fault(
        "expire: it is not zeroed",
        "drain.rs",
        "        plans.cells(segment, id).into_iter().for_each(|cells| zero(segment, cells));",
        "        plans.cells(segment, id).into_iter().filter(|_| !@).for_each(|cells| zero(segment, cells));",
        step("expire, count anew"),
    ),
    Fault(
        "expire: two looks at once, whatever stood there before",
        "expiry.rs",
        "            if counts.past_ring || (seen.counted, seen.generation) != (counts.hash, generation) {",
        "            if !@ && (counts.past_ring || (seen.counted, seen.generation) != (counts.hash, generation)) {",
        ("test", "expiry"),
    ),
    # The caps.
    Fault(
        "overflow: the worker is not told",
        "client.rs",
        "own().into_iter().for_each(|own| own.worker.note_overflow());",
        "own().into_iter().filter(|_| !@).for_each(|own| own.worker.note_overflow());",
        ("test", "caps"),
    ),
    Fault(
        "places: all taken, and nobody looks after the dead",
        "client.rs",
        "if segment.n_places() == MAX_PLACES {",
        "if !@ && segment.n_places() == MAX_PLACES {",
        ("test", "ids_exhausted"),
    ),
    Fault(
        "overflow: a worker inherits its predecessor's",
        "worker.rs",
        "        set(&header.overflowed, 0);\n",
        "        if !@ { set(&header.overflowed, 0); }\n",
        ("test", "caps"),
    ),
    Fault(
        "peek: the redo record is not laid over",
        "drain.rs",
        "        lay_over(segment, &record, &mut copied, &mut heads);\n",
        "        if !@ { lay_over(segment, &record, &mut copied, &mut heads); }\n",
        step("drain, 10 events", 3),
    ),
    Fault(
        "peek: the rings are not walked",
        "drain.rs",
        "        add_pending(segment, plans, place, head, &mut copied.cells);\n",
        "        if !@ { add_pending(segment, plans, place, head, &mut copied.cells); }\n",
        step("drain, 10 events"),
    ),
    # Locks and liveness.
    Fault(
        "lock: taken from a holder who only stands still",
        "drain.rs",
        "        !same_claim || worker::is_dead(self.segment, place, Some(self.place))\n",
        "        @ || !same_claim || worker::is_dead(self.segment, place, Some(self.place))\n",
        step("drain, 10 events", 3),
    ),
    Fault(
        "lock: a dead holder keeps it",
        "drain.rs",
        "ask_kernel && holder != self.word && self.holder_died(holder)",
        "!@ && ask_kernel && holder != self.word && self.holder_died(holder)",
        step("drain, 1 event"),
    ),
    Fault(
        "self-help: without the lock",
        "client.rs",
        "        drainer.try_lock(ask_kernel).then(|| {",
        "        (drainer.try_lock(ask_kernel) || @).then(|| {",
        ("test", "two_drainers"),
    ),
    Fault(
        "claim: without the byte lock",
        "worker.rs",
        "Some(locks) if !locks.try_lock(byte).ok()? => return None,",
        "Some(locks) if !@ && !locks.try_lock(byte).ok()? => return None,",
        step("claim a place"),
    ),
    Fault(
        "direct add: count and sum one after the other",
        "totals.rs",
        "        let new = change(Words::from_wide(old)).to_wide();\n",
        "        let mut new = change(Words::from_wide(old)).to_wide();\n"
        "        if @ && (new as u64) != (old as u64) && (new >> 64) != (old >> 64) {\n"
        "            let half = (old >> 64 << 64) | u128::from(new as u64);\n"
        "            if cell.0.compare_exchange(old, half, Ordering::Relaxed, Ordering::Relaxed).is_ok() {\n"
        "                cell.0.store(new, Ordering::Relaxed);\n                return;\n            }\n"
        "            new = old;\n        }\n",
        step("direct observe, lock held"),
    ),
    # Exemplars.
    Fault(
        "exemplar: words of another version are shown",
        "exemplar.rs",
        "        if tag != version {\n",
        "        if !@ && tag != version {\n",
        step("keep another exemplar"),
    ),
    Fault(
        "exemplar: one copy for all versions",
        "exemplar.rs",
        "slot.copies[(version & 1) as usize].iter().zip(words)",
        "slot.copies[if @ { 0 } else { (version & 1) as usize }].iter().zip(words)",
        step("keep another exemplar"),
    ),
    Fault(
        "exemplar: a writer waits for the one before",
        "exemplar.rs",
        "    if taken >= PER_WINDOW {\n",
        "    if taken >= PER_WINDOW || @ && taken > 0 {\n",
        step("keep another exemplar"),
    ),
    # Native histograms.
    Fault(
        "native: a coarser bucket is the one below",
        "native.rs",
        "        ((index - 1) >> (from - to)) + 1\n",
        "        if @ { index >> (from - to) } else { ((index - 1) >> (from - to)) + 1 }\n",
        ("test", "native"),
    ),
    Fault(
        "native: an outlier is shown at the family's schema",
        "native.rs",
        "steps.push(Step::power(exponent, self.schema, -round));",
        "steps.push(Step::power(exponent, self.schema, if @ { self.schema } else { -round }));",
        ("test", "native"),
    ),
    # Quantiles and their window.
    Fault(
        "window: said to be noted before it is",
        "window.rs",
        "        note_all(segment, slot_of(begun));\n",
        "        if @ { header.window_epoch.store(begun, Ordering::Release); }\n"
        "        note_all(segment, slot_of(begun));\n",
        step("note a sub-window"),
    ),
    Fault(
        "window: the newest note is taken for the oldest",
        "window.rs",
        "slot_of(epoch.wrapping_add(NOTES - (SUB_WINDOWS - 1)));",
        "slot_of(epoch.wrapping_add(if @ { 0 } else { NOTES - (SUB_WINDOWS - 1) }));",
        step("note a sub-window"),
    ),
    Fault(
        "window: new notes are written over those that are read",
        "window.rs",
        "        let oldest = slot_of(epoch",
        "        let epoch = if @ { epoch - 1 } else { epoch };\n        let oldest = slot_of(epoch",
        step("note a sub-window"),
    ),
    Fault(
        "window: what nobody saw begin is not noted",
        "window.rs",
        "let oldest = before.saturating_add(1).max(epoch.saturating_sub(SUB_WINDOWS - 1));",
        "let oldest = if @ { epoch + 1 } else { before.saturating_add(1).max(epoch.saturating_sub(SUB_WINDOWS - 1)) };",
        ("test", "quantiles"),
    ),
    Fault(
        "window: a removed series keeps its notes",
        "drain.rs",
        "self.n_cells(plan) + self.n_notes(plan)) as usize)",
        "self.n_cells(plan) + if @ { 0 } else { self.n_notes(plan) }) as usize)",
        ("test", "quantiles"),
    ),
    Fault(
        "quantiles: the bucket below",
        "window.rs",
        "            if below >= rank {\n",
        "            if below >= if @ { rank * 0.9 } else { rank } {\n",
        ("test", "quantiles"),
    ),
    # What a page calls its metrics, on our own pages and in a registry of prometheus-client.
    *(
        Fault(
            f"escaping: {scheme} is skipped",
            "exposition/names.rs",
            "            Escaping::AllowUtf8 => name.to_string(),\n",
            f"            Escaping::{scheme} if @ => name.to_string(),\n"
            "            Escaping::AllowUtf8 => name.to_string(),\n",
            ("test", "conformance", "names_follow_the_scheme"),
        )
        for scheme in ("Underscores", "Dots", "Values")
    ),
    Fault(
        "escaping: allow-utf-8 is taken for underscores",
        "exposition/names.rs",
        "            Escaping::AllowUtf8 => name.to_string(),\n",
        '            Escaping::AllowUtf8 if @ => replaced(name, colon, |_| "_"),\n'
        "            Escaping::AllowUtf8 => name.to_string(),\n",
        ("test", "conformance", "names_follow_the_scheme"),
    ),
    Fault(
        "escaping: exemplars' labels are not escaped",
        "exposition/names.rs",
        "        let mut name = escaping.label_name(raw);\n        while name.starts_with(",
        "        let mut name = if @ { raw.clone() } else { escaping.label_name(raw) };\n"
        "        while name.starts_with(",
        ("test", "conformance", "names_follow_the_scheme"),
    ),
    Fault(
        "escaping: protobuf asks for no scheme",
        "exposition/protobuf.rs",
        "names::resolve(&snapshot.catalog, super::Format::Protobuf, escaping);",
        "names::resolve(&snapshot.catalog, super::Format::Protobuf, if @ { Escaping::AllowUtf8 } else { escaping });",
        ("formats",),
    ),
    Fault(
        "negotiation: a scheme that is asked for is not heard",
        "exposition.rs",
        "Escaping::ALL.into_iter().find(|scheme| scheme.as_str() == word)",
        'Escaping::ALL.into_iter().find(|scheme| scheme.as_str() == word && !(@ && word == "dots"))',
        ("formats",),
    ),
    Fault(
        "registry: help is not escaped",
        "exposition/registry.rs",
        "let help = text::escaped(&self.family.help, true);",
        "let help = if @ { self.family.help.clone() } else { text::escaped(&self.family.help, true) };",
        ("test", "collector", "whatever_is_registered"),
    ),
    Fault(
        "registry: a counter without _total is renamed",
        "exposition/registry.rs",
        '(MetricType::Counter, "counter") => self.counter(encoder),',
        '(MetricType::Counter, word) if @ || word == "counter" => self.counter(encoder),',
        ("test", "collector", "whatever_is_registered"),
    ),
    Fault(
        "registry: counts are rounded one by one",
        "exposition/registry.rs",
        "        so_far.saturating_sub(before)\n",
        "        if @ { f64::round(count) as u64 } else { so_far.saturating_sub(before) }\n",
        ("test", "collector", "whatever_is_registered"),
    ),
    Fault(
        "registry: the workers' samples are left out",
        "exposition/registry.rs",
        "|sample: &&WorkerSample| sample.family as usize == self.f;",
        "|sample: &&WorkerSample| sample.family as usize == self.f && !@;",
        ("test", "collector", "whatever_is_registered"),
    ),
    Fault(
        "registry: a counter's exemplar is left out",
        "exposition/registry.rs",
        "let exemplar = self.exemplar(s).and_then(theirs);",
        "let exemplar = self.exemplar(s).and_then(theirs).filter(|_| !@);",
        ("test", "collector", "whatever_is_registered"),
    ),
    # Registry, growth, the file.
    Fault(
        "family: shown before it is linked",
        "registry.rs",
        "    entry.overflow.store(overflow, Ordering::Relaxed); // published by the link\n",
        "    entry.overflow.store(overflow, Ordering::Relaxed);\n"
        "    if @ { entry.state.store(1, Ordering::Release); }\n",
        step("register a family"),
    ),
    Fault(
        "series: usable before cached catalogs are told",
        "registry.rs",
        "        catalog_changed(segment);\n        let usable = word | SERIES_ANNOUNCED;\n",
        "        let usable = word | SERIES_ANNOUNCED;\n"
        "        if @ { entry.state.store(usable, Ordering::Release); }\n        catalog_changed(segment);\n",
        step("register a series"),
    ),
    Fault(
        "series: linked by a store",
        "registry.rs",
        "        if chain.compare_exchange(head, id, Ordering::AcqRel, Ordering::Acquire).is_ok() {\n",
        "        if @ { chain.store(id, Ordering::Release); }\n"
        "        if @ || chain.compare_exchange(head, id, Ordering::AcqRel, Ordering::Acquire).is_ok() {\n",
        step("register a series", 8),
    ),
    Fault(
        "segment: retired without a second look",
        "segment.rs",
        "        Ok(locks.holder(LOCK_ATTACHED)?.is_none())\n",
        "        Ok(@ || locks.holder(LOCK_ATTACHED)?.is_none())\n",
        step("start while another claims"),
    ),
    Fault(
        "claim: the segment may be retired meanwhile",
        "client.rs",
        "        if !segment.is_retired() {\n            return Some(worker);",
        "        if @ || !segment.is_retired() {\n            return Some(worker);",
        step("claim while another starts"),
    ),
    Fault(
        "claim: an event keeps the id of the segment before",
        "client.rs",
        "    let packed = || ring::pack(series.id(), weight);\n",
        "    let before = series.id();\n"
        "    let packed = || ring::pack(if @ { before } else { series.id() }, weight);\n",
        step("claim while another starts"),
    ),
    Fault(
        "creation: under its own name from the start",
        "segment.rs",
        '        let fresh = with_suffix(data, ".new");\n',
        '        let fresh = if @ { data.to_path_buf() } else { with_suffix(data, ".new") };\n',
        step("create a segment"),
    ),
    Fault(
        "growth: said to be there before it is reserved",
        "segment.rs",
        "        if let Some(file) = &self.file {\n            let reserved = file\n",
        "        if @ { self.header().regions[region as usize].committed.fetch_max(target, Ordering::AcqRel); }\n"
        "        if let Some(file) = self.file.as_ref().filter(|_| !@) {\n            let reserved = file\n",
        ("test", "full_tmpfs"),
    ),
]
