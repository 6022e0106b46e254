using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What this host holds and works on, by claim: the journal's entries as they are on disk, what is said of each, who has reserved
/// which device, and the work that is under way. The one owner of all that, and the journal's only writer.
/// </summary>
/// <remarks>
/// <para>Which lock guards what:</para>
/// <list type="bullet">
/// <item><see cref="_gate"/> guards every field here. Under it the kernel is called when the journal is loaded, once, and afterwards only
/// for files of the
/// agent's own folder, never for a device.</item>
/// <item>What a claim's devices are on the host is guarded by no lock, but by its reservation: from <see cref="TryReserve"/> on only the
/// claim's own work (one thread) touches them, or, from <see cref="BeginResize"/> on, only the change of a PF's VFs.</item>
/// <item>Others have a lock of their own for their own fields: <see cref="FunctionCache"/> (held while it looks, and asks here meanwhile),
/// <see cref="DeviceMemory"/>, <see cref="DeviceCleaning"/>, <see cref="Twins"/>, <see cref="BlockingWork"/>,
/// <see cref="SharedReads"/>.</item>
/// <item>In this order: FunctionCache, then this, then DeviceMemory or BlockingWork. No work is run, and
/// nothing is said or raised of a holding, with this lock held.</item>
/// </list>
/// </remarks>
internal sealed class ClaimTable(IHostFileSystem files, string stateDirectory, DeviceMemory memory, ILogger logger, HostChanges changes)
{
    private readonly Lock _gate = new();
    private readonly Journal _journal = new(files, stateDirectory);
    private readonly Reservations _reservations = new();
    private readonly Dictionary<string, JournalEntry> _entries = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Holding> _holdings = new(StringComparer.Ordinal);
    private readonly Dictionary<string, ClaimWork> _works = new(StringComparer.Ordinal);

    // Half done by an agent before us, in this boot, and not worked on since.
    private readonly HashSet<string> _inherited = new(StringComparer.Ordinal);
    private volatile string? _bootId;
    private volatile bool _recovered;

    /// <summary>The journal was loaded by <see cref="Recover"/>.</summary>
    public bool IsRecovered => _recovered;

    /// <summary>The boot in which this agent works. Known once the journal is loaded, and so to every work on a claim.</summary>
    public string BootId => _bootId ?? throw new InvalidOperationException("The journal is not loaded yet.");

    /// <summary>What is held, by claim UID; never Rejected ones.</summary>
    public IReadOnlyList<Holding> Holdings
    {
        get
        {
            lock (_gate)
                return [.. _holdings.Values.OrderBy(h => h.ClaimUid, StringComparer.Ordinal)];
        }
    }

    /// <summary>Loads the journal, and removes what writes that were cut off left in it.</summary>
    public void Recover()
    {
        lock (_gate)
        {
            LoadOnce();
            _recovered = true;
            if (_journal.HasLeftOvers)
                _journal.RemoveLeftOvers();
        }
    }

    /// <summary>Loads the journal, the first time.</summary>
    /// <exception cref="JournalException">An entry is of a newer format.</exception>
    /// <exception cref="StateFolderInUseException">Another agent works on this host.</exception>
    /// <exception cref="HostIoException">It can't be read.</exception>
    public void Load()
    {
        lock (_gate)
            LoadOnce();
    }

    /// <summary>The claim's entry; null when it has none.</summary>
    public JournalEntry? EntryOf(string uid)
    {
        lock (_gate)
            return _entries.GetValueOrDefault(uid);
    }

    /// <summary>What is said of the claim; null when nothing is held.</summary>
    public Holding? HoldingOf(string uid)
    {
        lock (_gate)
            return _holdings.GetValueOrDefault(uid);
    }

    /// <summary>Whether a claim has the device, or has reserved it.</summary>
    public bool IsHeld(PciAddress address)
    {
        lock (_gate)
            return _reservations.IsHeld(address);
    }

    /// <summary>Those of the functions that a claim has, or has reserved.</summary>
    public HashSet<PciAddress> HeldOf(IEnumerable<HostFunction> functions)
    {
        lock (_gate)
            return [.. functions.Select(f => f.Address).Where(_reservations.IsHeld)];
    }

    /// <summary>The id under which the journal has a function that never left, also while its serial number can't be read.</summary>
    public string? HeldId(HostFunction f)
    {
        if (!f.IsStillOurs)
            return null;
        lock (_gate)
        {
            return _entries.Count == 0 || !_reservations.IsHeld(f.Address)
                ? null
                : _entries
                    .Values.Where(e => e.BootId == _bootId)
                    .SelectMany(e => e.Devices)
                    .FirstOrDefault(d =>
                        d.Address == f.Address
                        && DeviceIdentity.Difference(d.Address, KnownDevice.Of(d), KnownDevice.Of(f), stillOurs: true) is null
                    )
                    ?.StableId;
        }
    }

    /// <summary>Entries whose devices must be there and bound, and on which nothing works now.</summary>
    public List<JournalEntry> Settled()
    {
        lock (_gate)
            return [.. _entries.Values.Where(IsSettled)];
    }

    /// <summary>
    /// Functions that the kernel may be keeping locked for us: those that are being worked on, and those on which an agent
    /// before us was working in this boot, since a thread that unbinds a device in use outlives its process.
    /// </summary>
    public HashSet<PciAddress> Locked()
    {
        lock (_gate)
        {
            return
            [
                .. _reservations.Resizing.Keys,
                .. _inherited.SelectMany(uid => _entries.GetValueOrDefault(uid)?.Devices ?? []).Select(d => d.Address),
                .. _works
                    .Where(w => w.Value.Work.Purpose is not null)
                    .SelectMany(w => _entries.GetValueOrDefault(w.Key)?.Devices ?? [], (_, device) => device.Address),
            ];
        }
    }

    /// <summary>
    /// The work that prepares a claim: what is under way for it already, or a new one; or what is to be said without any.
    /// </summary>
    /// <param name="request">What is asked for.</param>
    /// <param name="begin">Makes the new one, which the caller starts.</param>
    public WorkOrAnswer ToPrepare(AssignmentRequest request, Func<ClaimWork> begin)
    {
        lock (_gate)
        {
            LoadOnce();
            if (Quarantined(request.ClaimUid) is { } unknown)
                return WorkOrAnswer.Of(unknown);
            if (!_works.TryGetValue(request.ClaimUid, out ClaimWork? running))
                return WorkOrAnswer.New(_works[request.ClaimUid] = begin());
            return running.Work.IsStalled
                ? WorkOrAnswer.Of(_holdings.GetValueOrDefault(request.ClaimUid) ?? running.Stalled(request))
                : WorkOrAnswer.Running(running);
        }
    }

    /// <summary>The work that releases a claim, as <see cref="ToPrepare"/>; what is being prepared for it is abandoned.</summary>
    public WorkOrAnswer ToRelease(string uid, Func<ClaimWork> begin)
    {
        lock (_gate)
        {
            LoadOnce();
            if (Quarantined(uid) is { } unknown)
                return WorkOrAnswer.Of(unknown);
            if (!_works.TryGetValue(uid, out ClaimWork? running))
                return _entries.ContainsKey(uid) ? WorkOrAnswer.New(_works[uid] = begin()) : WorkOrAnswer.Of(null);
            if (running.IsPrepare)
                running.Work.Abandoned = true;
            return running.Work.IsStalled ? WorkOrAnswer.Of(_holdings.GetValueOrDefault(uid)) : WorkOrAnswer.Running(running);
        }
    }

    /// <summary>The work on a claim has ended.</summary>
    public void End(string uid)
    {
        lock (_gate)
        {
            _works.Remove(uid);
            _inherited.Remove(uid);
        }
    }

    /// <summary>Writes a claim's entry, which counts from now on even if writing it fails.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="through">The host as the claim's work writes to it.</param>
    /// <exception cref="HostIoException">It is perhaps not on disk.</exception>
    public void Save(JournalEntry entry, IHostFileSystem through)
    {
        // Known before it is on disk: a write that failed may have left its file.
        lock (_gate)
        {
            _entries[entry.ClaimUid] = entry;
            _reservations.Reserve(entry.ClaimUid, Reservations.Share.Of(entry));
        }

        _journal.Save(through, entry);
    }

    /// <summary>Removes a claim's entry, and frees what it has reserved: from disk first.</summary>
    /// <exception cref="HostIoException">It is perhaps still on disk, and counts.</exception>
    public void Remove(string uid, IHostFileSystem through)
    {
        _journal.Remove(through, uid);
        lock (_gate)
        {
            _entries.Remove(uid);
            _reservations.Free(uid);
        }
    }

    /// <summary>Reserves a share of the host's devices for a claim.</summary>
    /// <param name="uid">The claim's.</param>
    /// <param name="wanted">What its devices are part of now.</param>
    /// <param name="isWhole">Whether each of them is there with its group.</param>
    /// <param name="before">Its entry; null when it has none.</param>
    /// <returns>A change of VFs that has to end first; null: it is reserved.</returns>
    /// <exception cref="RefusalException">OwnedByOther.</exception>
    public BlockingWork? TryReserve(string uid, Reservations.Share wanted, bool isWhole, JournalEntry? before)
    {
        lock (_gate)
        {
            // A device that isn't there, or not wholly, may be a VF that is about to appear.
            BlockingWork? resizing = _reservations
                .Resizing.Where(r => isWhole ? wanted.Addresses.Contains(r.Key) || wanted.Parents.Contains(r.Key) : !r.Value.IsStalled)
                .Select(r => r.Value)
                .FirstOrDefault();
            if (resizing is not null)
                return resizing;
            if (_reservations.Conflict(uid, wanted) is var (owner, what))
                throw new RefusalException(HoldingReasons.OwnedByOther, $"The claim {owner} holds {what} here.");

            // What can't be seen now is what it was.
            _reservations.Reserve(uid, isWhole || before is null ? wanted : wanted.And(Reservations.Share.Of(before)));
            return null;
        }
    }

    /// <summary>The change of a PF's VFs that is under way; null when none is.</summary>
    public BlockingWork? ResizeOf(PciAddress pf)
    {
        lock (_gate)
        {
            LoadOnce();
            return _reservations.Resizing.GetValueOrDefault(pf);
        }
    }

    /// <summary>Reserves a PF for a change of its VFs, unless one is under way or claims hold what it would take away.</summary>
    /// <param name="pf">The PF.</param>
    /// <param name="hasVfs">Whether it has VFs now.</param>
    /// <param name="takesNothing">Whether it keeps the VFs that it has.</param>
    /// <param name="begin">Makes the work of the change, which the caller starts.</param>
    public ResizeStart BeginResize(PciAddress pf, bool hasVfs, bool takesNothing, Func<BlockingWork> begin)
    {
        lock (_gate)
        {
            if (_reservations.Resizing.TryGetValue(pf, out BlockingWork? running))
                return new ResizeStart(null, running, []);
            IReadOnlyList<(string ClaimUid, string Claim)> holders = _reservations.HoldersOf(pf, hasVfs);
            return holders.Count > 0 && !takesNothing
                ? new ResizeStart(null, null, holders)
                : new ResizeStart(_reservations.Resizing[pf] = begin(), null, []);
        }
    }

    /// <summary>The change of a PF's VFs has ended.</summary>
    public void EndResize(PciAddress pf)
    {
        lock (_gate)
            _reservations.Resizing.Remove(pf);
    }

    /// <summary>Publishes a claim's holding; null or a Rejected one removes it.</summary>
    public void Publish(string uid, Holding? holding)
    {
        bool changed;
        lock (_gate)
        {
            Holding? before = _holdings.GetValueOrDefault(uid);
            if (holding is null or { State: HoldingState.Rejected })
            {
                _holdings.Remove(uid);
                changed = before is not null;
            }
            else
            {
                _holdings[uid] = holding;
                changed = before is null || !before.Equals(holding);
            }
        }

        if (changed && holding is not null)
            Tell(holding);
        if (changed)
            changes.Raise();
    }

    /// <summary>Publishes unless somebody has begun to work on the claim meanwhile.</summary>
    public void PublishIfStill(JournalEntry entry, Holding? before, Holding after)
    {
        lock (_gate)
        {
            if (
                !IsSettled(entry)
                || !ReferenceEquals(_entries.GetValueOrDefault(entry.ClaimUid), entry)
                || !ReferenceEquals(_holdings.GetValueOrDefault(entry.ClaimUid), before)
                || after.Equals(before)
            )
            {
                return;
            }

            _holdings[entry.ClaimUid] = after;
        }

        Tell(after);
        changes.Raise();
    }

    private bool IsSettled(JournalEntry entry) =>
        entry.Stage == JournalStage.Prepared && entry.BootId == _bootId && !_works.ContainsKey(entry.ClaimUid);

    /// <summary>A claim whose journal entry can't be read holds something unknown until a person has looked.</summary>
    private Holding? Quarantined(string uid)
    {
        if (_holdings.GetValueOrDefault(uid) is not { Reason: HoldingReasons.JournalCorrupt } holding)
            return null;
        if (_journal.Unreadable.GetValueOrDefault(uid) is { } path && files.Exists(path))
            return holding;
        _holdings.Remove(uid);
        return null;
    }

    private void LoadOnce()
    {
        if (_bootId is not null)
            return;
        if (files.TakeFolder(stateDirectory) is { } other)
        {
            throw new StateFolderInUseException(
                $"Another agent works on this host: {other} has {stateDirectory}. Two would undo each other's work, so this one stays still until that one ends."
            );
        }

        string boot = HostFacts.BootId(files);
        if (boot.Length == 0)
            throw new HostIoException("read", "/proc/sys/kernel/random/boot_id", Errnos.ENOENT);
        memory.Load();
        foreach (JournalEntry entry in _journal.Load())
        {
            _entries[entry.ClaimUid] = entry;
            _reservations.Reserve(entry.ClaimUid, Reservations.Share.Of(entry));
            _holdings[entry.ClaimUid] = HoldingFacts.AsLoaded(entry, boot, files);
            if (entry.BootId == boot && entry.Stage != JournalStage.Prepared)
                _inherited.Add(entry.ClaimUid);
        }

        foreach ((string uid, string path) in _journal.Unreadable)
        {
            // A name that no claim can have is nobody's: it is said, and holds up nothing.
            logger.LogError("The journal entry of claim {Uid} can't be read; it is kept at {Path}.", uid, path);
            if (Journal.IsUid(uid) && !_entries.ContainsKey(uid))
                _holdings[uid] = HoldingFacts.Unreadable(uid, path);
        }

        _bootId = boot;
    }

    private void Tell(Holding holding)
    {
        if (holding.Message is { } message)
        {
            logger.LogWarning(
                "Claim {Namespace}/{Name}: {State}, {Reason}: {Message}",
                holding.Request.ClaimNamespace,
                holding.Request.ClaimName,
                holding.State,
                holding.Reason,
                message
            );
        }
    }
}

/// <summary>The work on a claim to wait for; without one, the answer.</summary>
/// <param name="Work">The work; null: there is none to wait for.</param>
/// <param name="IsNew">It has still to be started.</param>
/// <param name="Answer">What is said then; null: nothing is held.</param>
internal readonly record struct WorkOrAnswer(ClaimWork? Work, bool IsNew, Holding? Answer)
{
    public static WorkOrAnswer New(ClaimWork work) => new(work, true, null);

    public static WorkOrAnswer Running(ClaimWork work) => new(work, false, null);

    public static WorkOrAnswer Of(Holding? answer) => new(null, false, answer);
}

/// <summary>How a change of a PF's VFs begins.</summary>
/// <param name="Begun">Its work; null: it does not begin.</param>
/// <param name="Running">The change that is under way already; null: none is.</param>
/// <param name="Holders">The claims that keep it from being begun.</param>
internal readonly record struct ResizeStart(
    BlockingWork? Begun,
    BlockingWork? Running,
    IReadOnlyList<(string ClaimUid, string Claim)> Holders
);
