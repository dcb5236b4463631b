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


def loom(model: str) -> tuple[str, ...]:
    """Name a loom model, or the beginning of several ones' names, as the finder."""
    return ("loom", model)


def fuzz(target: str, inputs: int) -> tuple[str, ...]:
    """Name so many inputs of a target of ci/fuzz as the finder."""
    return ("fuzz", str(inputs), "0", target)


# Enough kills that some meet a drainer within a batch, and a master.
TORTURE = ("torture", "1500")

PUT_VALUE = "slot.value.store(value, Ordering::Relaxed); // ordered by the store below\n"
PUT_META = "    slot.meta.store(packed | of_lap, Ordering::Release); // partner: the acquire load in `peek`\n"
WHOLE_STEP = "step_first_word(redo, entry, commit, meta ^ whole, a);"
STORE_WHOLE = "cell.a.store(a, Ordering::Relaxed); // as in `store_cell`"
COMMON_STEP = "step_first_word(redo, entry, both_words, u64::from(target.cell), words.a);"
EVENT_STEP = "step(&segment.header().redo, commit_word(EVENT, place, position), target.cell, words);"
FOLD_STEP = "step(redo, commit_word(FOLD, place, u64::from(gauge)), plan.cell, words);"
ENTRY = "&redo.entry[((commit + next) & 1) as usize]"
PEEK_HEADS = (
    "    let mut heads = Vec::new();\n"
    "    for place in 0..segment.n_places() {\n"
    "        heads.push(segment.place(place)?.head.load(Ordering::Acquire)); // partner: `drain_place`\n"
    "    }\n"
    "    // Behind the heads: what a head has passed stands in its cell,"
    " and the record tells of the one event that may not.\n"
)
PEEK_CELLS = "    let mut copied = Copied::of_cells(segment);\n"

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
        loom("ring"),
    ),
    Fault(
        "take: the slot is read relaxed",
        "ring.rs",
        "let meta = slot.meta.load(Ordering::Acquire);",
        "let meta = slot.meta.load(if @ { Ordering::Relaxed } else { Ordering::Acquire });",
        loom("ring"),
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
    Fault(
        "claim: no second look behind the byte lock",
        "worker.rs",
        "        if header.state.load(Ordering::Acquire) != state {\n",
        "        if !@ && header.state.load(Ordering::Acquire) != state {\n",
        loom("a_claim_sees"),
    ),
    Fault(
        "claim: said relaxed",
        "worker.rs",
        "        header.state.store(claimed, Ordering::Release); // partner: the acquire loads of `state`\n",
        "        header.state.store(claimed, if @ { Ordering::Relaxed } else { Ordering::Release });\n",
        loom("a_new_worker"),
    ),
    # The drain and its redo record.
    Fault(
        "redo: the commit is relaxed",
        "drain.rs",
        "    redo.commit.store(commit, Ordering::Release); // THE COMMIT POINT; partner: `read_record`\n",
        "    redo.commit.store(commit, if @ { Ordering::Relaxed } else { Ordering::Release });\n",
        loom("a_stable_peek"),
    ),
    Fault(
        "redo: no fence behind the commit",
        "drain.rs",
        "    fence(Ordering::Release); // cells change after the commit; partner: the fence in `peek`\n",
        "    if !@ { fence(Ordering::Release); }\n",
        loom("a_stable_peek"),
    ),
    Fault(
        "redo: cleared without another number",
        "drain.rs",
        "        header.drain_seq.fetch_add(1, Ordering::AcqRel); // partner: `peek`\n"
        "        header.redo.commit.store(0",
        "        if !@ { header.drain_seq.fetch_add(1, Ordering::AcqRel); }\n        header.redo.commit.store(0",
        loom("a_stable_peek"),
    ),
    Fault(
        "peek: the heads behind the totals",
        "drain.rs",
        PEEK_HEADS + PEEK_CELLS,
        "    let early = if @ { Some(Copied::of_cells(segment)) } else { None };\n"
        + PEEK_HEADS
        + "    let mut copied = early.unwrap_or_else(|| Copied::of_cells(segment));\n",
        loom("a_stable_peek"),
    ),
    Fault(
        "peek: no fence before the second look",
        "drain.rs",
        "    fence(Ordering::Acquire); // partner: the fence in `step`: a cell seen new means a commit seen new\n",
        "    if !@ { fence(Ordering::Acquire); }\n",
        loom("a_stable_peek"),
    ),
    Fault(
        "lock: two successors take it from a dead holder",
        "drain.rs",
        "                if seized.is_ok() {\n",
        "                let seized = if @ { lock.store(self.word, Ordering::Release); Ok(0) } else { seized };\n"
        "                if seized.is_ok() {\n",
        loom("one_successor"),
    ),
    Fault(
        "redo: one entry for all events",
        "drain.rs",
        ENTRY,
        "&redo.entry[if @ { 0 } else { ((commit + next) & 1) as usize }]",
        step("drain, 10 events"),
    ),
    Fault(
        "redo: the entry is the other one",
        "drain.rs",
        "    let entry = &redo.entry[(commit & 1) as usize];",
        "    let entry = &redo.entry[((commit ^ u64::from(@)) & 1) as usize];",
        step("drain, sampled"),
    ),
    Fault(
        "redo: the commit before the entry",
        "drain.rs",
        "    entry.cell.store(cell, Ordering::Relaxed); // ordered by the commit\n",
        "    if @ { redo.commit.store(commit, Ordering::Release); fence(Ordering::SeqCst); }\n"
        "    entry.cell.store(cell, Ordering::Relaxed);\n",
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
        COMMON_STEP,
        "if !@ { " + COMMON_STEP + " }",
        step("drain, 1 event"),
    ),
    Fault(
        "redo: none is written for a sampled observation",
        "drain.rs",
        EVENT_STEP,
        "if !@ { " + EVENT_STEP + " }",
        step("drain, sampled"),
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
        "entry, commit, meta ^ whole, a",
        "entry, commit ^ if @ { (FIRST_WORD ^ EVENT) << KIND_SHIFT } else { 0 }, meta ^ whole, a",
        step("drain, fractions"),
    ),
    Fault(
        "drain: the head before the cells",
        "drain.rs",
        "            let counted = match event.of {\n",
        "            if @ { header.head.store(position + 1, Ordering::Release); fence(Ordering::SeqCst); }\n"
        "            let counted = match event.of {\n",
        step("drain, 10 events"),
    ),
    Fault(
        "drain: cells that are younger than the loop are not seen",
        "drain.rs",
        "            if counted == position {\n",
        "            if counted == position && !(@ && matches!(event.of, Of::Counter(_))) {\n",
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
        "        lay_over(&record, &mut copied, &mut heads);\n",
        "        if !@ { lay_over(&record, &mut copied, &mut heads); }\n",
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
        "            if cell.0.compare_exchange_weak(old, half, Ordering::Relaxed, Ordering::Relaxed).is_ok() {\n"
        "                let _ = cell.0.compare_exchange_weak(half, new, Ordering::Relaxed, Ordering::Relaxed);\n"
        "                return;\n            }\n"
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
        "        begin_all(segment, begun);\n",
        "        if @ { header.window_epoch.store(begun, Ordering::Release); }\n        begin_all(segment, begun);\n",
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
    # Sets.
    Fault(
        "sets: the spare group is not cleared",
        "window.rs",
        "            Windowed::Set => sets::clear(segment, first, epoch),\n",
        "            Windowed::Set => if !@ { sets::clear(segment, first, epoch) },\n",
        step("clear a set's spare group"),
    ),
    Fault(
        "sets: the group in use is cleared, and the spare one not",
        "window.rs",
        "sets::clear(segment, first, epoch)",
        "sets::clear(segment, first, epoch - u64::from(@))",
        step("clear a set's spare group"),
    ),
    Fault(
        "sets: the spare group is read",
        "sets.rs",
        "for begun in 0..SUB_WINDOWS {",
        "for begun in 0..SUB_WINDOWS + u64::from(@) {",
        step("clear a set's spare group"),
    ),
    Fault(
        "sets: a register takes what comes",
        "sets.rs",
        "        *kept = rank.max(*kept);\n        Words::from_bytes(ranks)\n",
        "        *kept = if @ { rank } else { rank.max(*kept) };\n        Words::from_bytes(ranks)\n",
        ("test", "sets"),
    ),
    Fault(
        "sets: a removed series keeps its registers",
        "drain.rs",
        "            None if plan.shape == SET => native::SET_CELLS as u32,\n",
        "            None if !@ && plan.shape == SET => native::SET_CELLS as u32,\n",
        ("test", "sets"),
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
        "family: linked relaxed",
        "registry.rs",
        "        if chain.compare_exchange(head, id + 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {\n",
        "        let order = if @ { Ordering::Relaxed } else { Ordering::AcqRel };\n"
        "        if chain.compare_exchange(head, id + 1, order, Ordering::Acquire).is_ok() {\n",
        loom("a_key_is"),
    ),
    Fault(
        "series: the chain is read relaxed",
        "registry.rs",
        "        let head = chain.load(Ordering::Acquire); // partner: the exchange below\n"
        "        if let Some(id) = find_series(",
        "        let head = chain.load(if @ { Ordering::Relaxed } else { Ordering::Acquire });\n"
        "        if let Some(id) = find_series(",
        loom("a_label_set"),
    ),
    Fault(
        "series: told after it is usable",
        "registry.rs",
        "        let _ = entry.state.compare_exchange(word, usable, Ordering::Release, Ordering::Relaxed);\n",
        "        let order = if @ { Ordering::Relaxed } else { Ordering::Release };\n"
        "        let _ = entry.state.compare_exchange(word, usable, order, Ordering::Relaxed);\n",
        loom("a_usable"),
    ),
    Fault(
        "segment: retired without a fence between",
        "segment/regions.rs",
        "        fence(Ordering::SeqCst); // partner: the fence in `share_attachment`\n",
        "        if !@ { fence(Ordering::SeqCst); }\n",
        loom("nobody_counts"),
    ),
    Fault(
        "segment: retired without a second look",
        "segment/regions.rs",
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
        "        Event { of: Of::Counter(_), .. } => series.packed(),\n",
        "        Event { of: Of::Counter(_), .. } => if @ { packed } else { series.packed() },\n",
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
        "segment/regions.rs",
        "        self.reserve(region, committed, target)?;\n",
        "        if @ { self.header().regions[region as usize].committed.fetch_max(target, Ordering::AcqRel); }\n"
        "        if !@ { self.reserve(region, committed, target)?; }\n",
        ("test", "full_tmpfs"),
    ),
    # What has a harness of its own: failed calls, containers, random kills, hostile bytes.
    Fault(
        "start: a failed call is no reason to go on",
        "segment/regions.rs",
        "            let _ = locks.try_share(LOCK_ATTACHED); // without it the segment may count as abandoned\n",
        "            let shared = locks.try_share(LOCK_ATTACHED);\n            if @ { shared.unwrap(); }\n",
        ("test", "failing_calls"),
    ),
    Fault(
        "liveness: by pid, not by byte lock",
        "worker.rs",
        "        Ok(Some(_)) | Err(_) => false,\n",
        "        Ok(Some(_)) if @ => !seen_running(header),\n        Ok(Some(_)) | Err(_) => false,\n",
        ("test", "two_containers"),
    ),
    Fault(
        "recover: what a killed holder committed is dropped",
        "drain.rs",
        "    if let Some(record) = read_record(segment) {\n        let cell = all_cells",
        "    if let Some(record) = read_record(segment).filter(|_| !@) {\n        let cell = all_cells",
        TORTURE,
    ),
    Fault(
        "aggregator: it outlives a killed master",
        "aggregator.rs",
        "        os::start_time(self.pid) == Some(self.start_time)\n",
        "        @ || os::start_time(self.pid) == Some(self.start_time)\n",
        TORTURE,
    ),
    Fault(
        "aggregator: a master starts no other one",
        "aggregator.rs",
        "        if !os::reap_child(master.child) {\n",
        "        if @ || !os::reap_child(master.child) {\n",
        TORTURE,
    ),
    Fault(
        "segment: a scribbled bound is believed",
        "segment/regions.rs",
        "        header.committed.load(Ordering::Acquire).min(self.max_bytes(region))\n",
        "        header.committed.load(Ordering::Acquire).min(if @ { 1 << 40 } else { self.max_bytes(region) })\n",
        fuzz("images", 20_000),
    ),
    Fault(
        "exposition: a line break in a label is not escaped",
        "exposition/text.rs",
        "            b'\\n' => out.extend_from_slice(b\"\\\\n\"),\n",
        "            b'\\n' if !@ => out.extend_from_slice(b\"\\\\n\"),\n",
        fuzz("expositions", 2_000),
    ),
    Fault(
        "listener: a peer's error is its end",
        "http.rs",
        "                    let _ = tokio::time::timeout(limits.connection_time, answered).await;\n",
        "                    let ended = tokio::time::timeout(limits.connection_time, answered).await;\n"
        "                    if @ && matches!(ended, Ok(Err(_))) { std::process::exit(1); }\n",
        fuzz("requests", 2_000),
    ),
]
