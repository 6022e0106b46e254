using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>Limits of a <see cref="PassthroughHost"/>.</summary>
public sealed record PassthroughHostOptions
{
    /// <summary>How long one call of the kernel may take before its holding is called Stuck. The work goes on when it returns.</summary>
    public TimeSpan WriteTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long reading one file may hold up a look at everything; a device that takes longer is withheld until it answers.</summary>
    public TimeSpan LookTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long one call of the kernel may hold up the looks that other claims share with who makes it, by the real clock.</summary>
    internal TimeSpan LookPatience { get; init; } = TimeSpan.FromMilliseconds(25);

    /// <summary>How long VFs that the kernel counts may take to be there.</summary>
    public TimeSpan VfTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a device may take to answer after a reset, unless it asks for more.</summary>
    public TimeSpan ResetPatience { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>The name of the host's Node and PciNode, for sentences that say what command to run.</summary>
    public string NodeName { get; init; } = "NODE";

    /// <summary>Drivers whose devices are never taken, unless a person overrides that for one of them.</summary>
    public IReadOnlyList<string> DeniedDrivers { get; init; } = Host.DeniedDrivers.BuiltIn;
}

/// <summary>
/// A Linux host's passthrough: inventory, guards, journal, binding, release and SR-IOV. Thread-safe; each claim is worked
/// on by a thread of its own, and claims never wait for each other: what they may touch is reserved first.
/// </summary>
public sealed partial class PassthroughHost
{
    private readonly Lock gate = new();
    private readonly IHostFileSystem files;
    private readonly TimeProvider time;
    private readonly ILogger logger;
    private readonly PassthroughHostOptions options;
    private readonly string stateDirectory;
    private readonly Guards guards;
    private readonly TimedReadFileSystem looked;
    private readonly HostDiagnosis diagnosis;
    private readonly Journal journal;
    private readonly DeviceMemory memory;
    private readonly Reservations reservations = new();
    private readonly Twins twins = new();
    private readonly SharedReads looks;
    private readonly Dictionary<string, JournalEntry> entries = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Holding> holdings = new(StringComparer.Ordinal);
    private readonly Dictionary<string, ClaimWork> works = new(StringComparer.Ordinal);

    // Half done by an agent before us, in this boot, and not worked on since.
    private readonly HashSet<string> inherited = new(StringComparer.Ordinal);
    private string? bootId;
    private bool? vfioLoadable;
    private volatile FunctionCache cache;
    private volatile IReadOnlyList<HostFunction> lastSeen = [];

    /// <summary>A host seen through <paramref name="files"/>, with its journal under <paramref name="stateDirectory"/> (absolute, on the host).</summary>
    public PassthroughHost(IHostFileSystem files, string stateDirectory, TimeProvider? time = null, ILogger? logger = null, PassthroughHostOptions? options = null)
    {
        this.files = files;
        this.time = time ?? TimeProvider.System;
        this.logger = logger ?? NullLogger.Instance;
        this.options = options ?? new PassthroughHostOptions();
        guards = new Guards(this.options.DeniedDrivers);
        looks = new SharedReads(this.options.LookPatience);
        looked = new TimedReadFileSystem(files, this.time);
        cache = new FunctionCache(looked, this.time);
        diagnosis = new HostDiagnosis(looked);
        this.stateDirectory = stateDirectory.TrimEnd('/');
        journal = new Journal(files, this.stateDirectory);
        memory = new DeviceMemory(files, this.stateDirectory);
    }

    /// <summary>A holding was added, changed or removed. Raised outside of locks, from any thread.</summary>
    public event Action? Changed;

    /// <summary>
    /// Devices that a person gives away although a guard refuses them; each member of a group needs its own, and the host's consent: a line
    /// in STATE/guard-overrides. Never what the agent can't see, what VFIO runs without an IOMMU, what somebody else has on VFIO, or what the
    /// host runs from: root, boot, the kubelet's and the container runtime's disks, the interface with the default route. Can be set at any time.
    /// </summary>
    public IReadOnlyList<GuardOverride> GuardOverrides
    {
        get => guards.Overrides;
        set
        {
            if (guards.Overrides.SequenceEqual(value))
                return;
            guards.Overrides = value;
            Changed?.Invoke();
        }
    }

    /// <summary>What the journal holds, by claim UID; never Rejected ones.</summary>
    public IReadOnlyList<Holding> Holdings
    {
        get
        {
            lock (gate)
                return [.. holdings.Values.OrderBy(h => h.ClaimUid, StringComparer.Ordinal)];
        }
    }

    /// <summary>Looks at every PCI function and its guards, and says on the holdings whose devices are gone or changed.</summary>
    /// <param name="fresh">Read the serial numbers again too: for after PCI devices came or went.</param>
    /// <exception cref="HostIoException">The host can't be read at all.</exception>
    /// <exception cref="JournalException">What is remembered of a device was written by a newer agent.</exception>
    public HostSnapshot Scan(bool fresh = false) => Scan(null, fresh);

    /// <summary>
    /// Looks again at what the kernel said something about, and at what may have changed along with that; how the host uses
    /// its devices and its own facts are read anew. The first look is a look at everything.
    /// </summary>
    /// <param name="heard">All uevents since the look before.</param>
    /// <exception cref="HostIoException">The host can't be read at all.</exception>
    /// <exception cref="JournalException">What is remembered of a device was written by a newer agent.</exception>
    public HostSnapshot Scan(IReadOnlyCollection<Uevent> heard) => Scan(heard, heard.Any(u => u.Overrun));

    private HostSnapshot Scan(IReadOnlyCollection<Uevent>? heard, bool fresh)
    {
        while (true)
        {
            LookOutcome<HostSnapshot> outcome = looked.Run(() => Look(heard, fresh), options.LookTimeout, () => Changed?.Invoke());
            if (outcome.Seen is { } snapshot)
                return snapshot;

            // What that look has locked and remembers stays with it.
            logger.LogWarning("A device is left out of looks at the host until it answers: {What}.", outcome.Hangs);
            cache = new FunctionCache(looked, time);
        }
    }

    private HostSnapshot Look(IReadOnlyCollection<Uevent>? heard, bool fresh)
    {
        List<JournalEntry> settled = Settled();
        guards.Consent = GuardConsent.Read(looked, stateDirectory);
        var problems = new List<string>();
        var use = HostUse.Read(looked);
        List<HostFunction> functions = WithSilent(twins.Tell(cache.See(heard, settled, use, IsHeld, Locked(), fresh, problems), HeldId));
        NoticeDrift(settled, functions);
        vfioLoadable ??= HostFacts.IsLoadable(looked);
        IommuFacts iommu = HostFacts.Iommu(looked, diagnosis.BootBy(looked));
        string kernel = HostFacts.KernelVersion(looked);
        string boot = HostFacts.BootId(looked);
        return new HostSnapshot
        {
            Functions = Remembered(Guarded(functions, use), boot, kernel),
            KernelVersion = kernel,
            BootId = boot,
            NumaNodes = HostFacts.NumaNodes(looked),
            Iommu = iommu,
            Vfio = HostFacts.Vfio(looked, vfioLoadable),
            Facts = diagnosis.Facts(iommu, functions),
            Problems = problems,
        };
    }

    /// <summary>Devices that don't answer are there as they were seen last, withheld.</summary>
    private List<HostFunction> WithSilent(List<HostFunction> functions)
    {
        IReadOnlyList<HostFunction> before = lastSeen;
        lastSeen = functions;
        if (looked.Silent.Count == 0)
            return functions;
        HashSet<PciAddress> seen = [.. functions.Select(f => f.Address)];
        List<HostFunction> silent = [.. before.Where(f => !seen.Contains(f.Address) && looked.Silent.ContainsKey(f.Address))];
        lastSeen = [.. functions.Concat(silent).OrderBy(f => f.Address)];
        return
        [
            .. functions.Concat(silent.Select(f => f with
            {
                WithheldBy = WithheldWords.NotAnswering,
                Withheld = $"{f.Address} doesn't answer: the kernel has not finished {looked.Silent.GetValueOrDefault(f.Address, "a read")}, as when a driver can't let go of the device. A process may still use it: stop it.",
            })).OrderBy(f => f.Address),
        ];
    }

    /// <summary>The journal was loaded.</summary>
    public bool IsRecovered { get; private set; }

    /// <summary>Loads the journal; entries stay as they are until they are prepared or released again.</summary>
    /// <exception cref="JournalException">An entry is of a newer format: this agent must not act.</exception>
    /// <exception cref="StateFolderInUseException">Another agent works on this host.</exception>
    /// <exception cref="HostIoException">The journal can't be read; or (<see cref="IsRecovered"/>) it was, and what writes that were cut off left can't be removed.</exception>
    public Task RecoverAsync(CancellationToken ct = default)
    {
        ct.ThrowIfCancellationRequested();
        lock (gate)
        {
            Load();
            IsRecovered = true;
            if (journal.HasLeftOvers)
                journal.RemoveLeftOvers();
        }

        Changed?.Invoke();
        return Task.CompletedTask;
    }

    /// <summary>
    /// Binds the claim's devices and verifies them; says at once what is so already, and finishes what is half done.
    /// </summary>
    /// <returns>Prepared; Rejected: nothing is held for the claim any more and everything is as it was; or Stuck.</returns>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    /// <exception cref="HostIoException">The journal wasn't loaded before, and can't be.</exception>
    public async Task<Holding> PrepareAsync(AssignmentRequest request, CancellationToken ct = default)
    {
        if (Fault(request) is { } fault)
            return Rejected(request, HoldingReasons.InvalidRequest, fault);
        while (true)
        {
            ClaimWork work;
            bool mine = false;
            lock (gate)
            {
                Load();
                if (Quarantined(request.ClaimUid) is { } unknown)
                    return unknown;
                if (!works.TryGetValue(request.ClaimUid, out ClaimWork? running))
                {
                    running = new ClaimWork(this, request.ClaimUid, request);
                    works[request.ClaimUid] = running;
                    mine = true;
                }

                work = running;
                if (!mine && work.Work.IsStalled)
                    return holdings.GetValueOrDefault(request.ClaimUid) ?? Stalled(request, work);
            }

            if (mine)
                work.Start($"prepare {request.ClaimUid}", () => Prepare(request, work.Work));
            await work.Work.EndedOrStalled.WaitAsync(ct);
            if (!work.Work.Ended.IsCompleted)
            {
                lock (gate)
                    return holdings.GetValueOrDefault(request.ClaimUid) ?? Stalled(request, work);
            }

            if (work.IsPrepare)
                return (await work.Result)!;
        }
    }

    /// <summary>
    /// Gives the claim's devices back: each to its own driver, with its override and its number of VFs, then clears the
    /// journal. While a process has a device open it says Releasing and why; call again.
    /// </summary>
    /// <returns>Null: nothing is held for the claim any more. Otherwise Releasing or Stuck.</returns>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public async Task<Holding?> ReleaseAsync(string claimUid, CancellationToken ct = default)
    {
        while (true)
        {
            ClaimWork work;
            bool mine = false;
            lock (gate)
            {
                Load();
                if (Quarantined(claimUid) is { } unknown)
                    return unknown;
                if (!works.TryGetValue(claimUid, out ClaimWork? running))
                {
                    if (!entries.ContainsKey(claimUid))
                        return null;
                    running = new ClaimWork(this, claimUid, null);
                    works[claimUid] = running;
                    mine = true;
                }

                work = running;
                if (work.IsPrepare)
                    work.Work.Abandoned = true;
                if (!mine && work.Work.IsStalled)
                    return holdings.GetValueOrDefault(claimUid);
            }

            if (mine)
                work.Start($"release {claimUid}", () => Release(claimUid, work.Work));
            await work.Work.EndedOrStalled.WaitAsync(ct);
            if (!work.Work.Ended.IsCompleted)
            {
                lock (gate)
                    return holdings.GetValueOrDefault(claimUid);
            }

            if (!work.IsPrepare)
                return await work.Result;
        }
    }

    private static string? Fault(AssignmentRequest request)
    {
        if (!Journal.IsUid(request.ClaimUid))
            return $"'{request.ClaimUid}' is not a claim's UID.";
        if (request.Devices.Count == 0)
            return "The assignment names no device.";
        return request.Devices.GroupBy(d => d.Address).FirstOrDefault(g => g.Count() > 1) is { } twice
            ? $"The assignment names {twice.Key} twice."
            : null;
    }

    private static Holding Rejected(AssignmentRequest request, string reason, string message) =>
        new() { Request = request, State = HoldingState.Rejected, Reason = reason, Message = message };

    /// <summary>Work that has no journal entry yet, and so no holding, while the host doesn't answer.</summary>
    private Holding Stalled(AssignmentRequest request, ClaimWork work) => new()
    {
        Request = request,
        State = HoldingState.Stuck,
        Reason = HoldingReasons.WriteBlocked,
        Message = $"{string.Join(", ", request.Devices.Select(d => d.Address))} can't be looked at: the kernel has not finished {work.StalledAt ?? "an answer"} for {options.WriteTimeout.TotalSeconds:0} s. The work goes on when the kernel does.",
    };

    /// <summary>The id under which the journal has a function that never left, also while its serial number can't be read.</summary>
    private string? HeldId(HostFunction f)
    {
        if (!IsStillOurs(f))
            return null;
        lock (gate)
        {
            return entries.Count == 0 || !reservations.IsHeld(f.Address) ? null
                : entries.Values.Where(e => e.BootId == bootId).SelectMany(e => e.Devices)
                    .FirstOrDefault(d => d.Address == f.Address && DeviceIdentity.Difference(d.Address, KnownDevice.Of(d), KnownDevice.Of(f), stillOurs: true) is null)?.StableId;
        }
    }

    private bool IsHeld(PciAddress address)
    {
        lock (gate)
            return reservations.IsHeld(address);
    }

    /// <summary>The first guard that refuses any of the functions that would be taken together, for each of them.</summary>
    private List<HostFunction> Guarded(List<HostFunction> functions, HostUse use)
    {
        HashSet<PciAddress> held;
        lock (gate)
            held = [.. functions.Select(f => f.Address).Where(reservations.IsHeld)];
        Dictionary<PciAddress, GuardVerdict> verdicts = functions.Where(f => !f.Function.IsBridge)
            .ToDictionary(f => f.Address, f => guards.Check(f, use, held.Contains(f.Address)));

        // A PF goes with its VFs, and any function with its group: its own refusal comes before theirs.
        var alone = new Dictionary<PciAddress, GuardRefusal>();
        foreach ((PciAddress address, GuardVerdict verdict) in verdicts)
        {
            if (verdict.Refusal is { } refusal)
                alone[address] = refusal;
        }

        foreach (HostFunction f in functions)
        {
            if (f.Function.ParentAddress is { } pf && verdicts.GetValueOrDefault(f.Address).Refusal is { } refusal)
                alone.TryAdd(pf, refusal);
        }

        var groups = new Dictionary<int, GuardRefusal>();
        foreach (HostFunction f in functions)
        {
            if (f.Function.IommuGroup is { } group && alone.TryGetValue(f.Address, out GuardRefusal? refusal))
                groups.TryAdd(group, refusal);
        }

        foreach (HostFunction f in functions.Where(f => f.Function.IsBridge))
        {
            if (f.Function.IommuGroup is { } group && Guards.SpoilsGroup(f) is { } refusal)
                groups.TryAdd(group, refusal);
        }

        return
        [
            .. functions.Select(f =>
            {
                if (f.Function.IsBridge)
                    return f;
                GuardRefusal? refusal = alone.GetValueOrDefault(f.Address) ?? (f.Function.IommuGroup is { } group ? groups.GetValueOrDefault(group) : null);
                return f with { GuardName = refusal?.Guard, GuardReason = refusal?.Sentence, Overridden = verdicts[f.Address].Overridden?.Sentence };
            }),
        ];
    }

    /// <summary>A claim whose journal entry can't be read holds something unknown until a person has looked.</summary>
    private Holding? Quarantined(string uid)
    {
        if (holdings.GetValueOrDefault(uid) is not { Reason: HoldingReasons.JournalCorrupt } holding)
            return null;
        if (journal.Unreadable.GetValueOrDefault(uid) is { } path && files.Exists(path))
            return holding;
        holdings.Remove(uid);
        return null;
    }

    private void Load()
    {
        if (bootId is not null)
            return;
        if (files.TakeFolder(stateDirectory) is { } other)
            throw new StateFolderInUseException($"Another agent works on this host: {other} has {stateDirectory}. Two would undo each other's work, so this one stays still until that one ends.");
        string boot = HostFacts.BootId(files);
        if (boot.Length == 0)
            throw new HostIoException("read", "/proc/sys/kernel/random/boot_id", Errnos.ENOENT);
        memory.Load();
        List<JournalEntry> loaded = journal.Load();
        foreach (JournalEntry entry in loaded)
        {
            entries[entry.ClaimUid] = entry;
            reservations.Reserve(entry.ClaimUid, Reservations.Share.Of(entry));
            holdings[entry.ClaimUid] = AsLoaded(entry, boot);
            if (entry.BootId == boot && entry.Stage != JournalStage.Prepared)
                inherited.Add(entry.ClaimUid);
        }

        foreach ((string uid, string path) in journal.Unreadable)
        {
            // A name that no claim can have is nobody's: it is said, and holds up nothing.
            logger.LogError("The journal entry of claim {Uid} can't be read; it is kept at {Path}.", uid, path);
            if (!Journal.IsUid(uid) || entries.ContainsKey(uid))
                continue;
            holdings[uid] = new Holding
            {
                Request = new AssignmentRequest { ClaimUid = uid, ClaimNamespace = "", ClaimName = "", Devices = [] },
                State = HoldingState.Stuck,
                Reason = HoldingReasons.JournalCorrupt,
                Message = $"The journal entry of this claim can't be read, so what it holds is unknown. Look for devices with a driver_override, put them back, then delete {path} on the host.",
            };
        }

        bootId = boot;
    }

    private Holding AsLoaded(JournalEntry entry, string boot)
    {
        bool rebooted = entry.BootId != boot;
        return new Holding
        {
            Request = entry.Request,
            State = entry.Stage switch
            {
                JournalStage.Releasing or JournalStage.Restoring => HoldingState.Releasing,
                JournalStage.Prepared when !rebooted => HoldingState.Prepared,
                _ => HoldingState.Preparing,
            },
            Reason = rebooted ? HoldingReasons.Rebooted : NotResetReason(entry),
            Message = rebooted ? "The host was rebooted since; nothing is bound until the claim is prepared again." : NotResetMessage(entry),
            Devices = Devices(entry, files),
        };
    }

    private static List<HeldDevice> Devices(JournalEntry entry, IHostFileSystem files) =>
    [
        .. entry.Devices.Select(d =>
        {
            string? driver = null, node = null, device = null;
            try
            {
                driver = Inventory.DriverOf(files, d.Address);
                if (VfioDrivers.IsVfio(driver))
                {
                    node = d.IommuGroup is { } group && files.Exists(SysfsPaths.GroupNode(group)) ? SysfsPaths.GroupNode(group) : null;
                    device = Inventory.VfioDevice(files, d.Address);
                }
            }
            catch (HostIoException)
            {
                // Shown as not bound: the next Prepare or Release says what is wrong.
            }

            return new HeldDevice { Address = d.Address, Driver = driver, OriginalDriver = d.OriginalDriver, DeviceNode = node, VfioDeviceNode = device };
        }),
    ];

    /// <summary>Publishes a claim's holding; null or a Rejected one removes it.</summary>
    private Holding? Publish(string uid, Holding? holding)
    {
        bool changed;
        lock (gate)
        {
            Holding? before = holdings.GetValueOrDefault(uid);
            if (holding is null or { State: HoldingState.Rejected })
            {
                holdings.Remove(uid);
                changed = before is not null;
            }
            else
            {
                holdings[uid] = holding;
                changed = before is null || !before.Equals(holding);
            }
        }

        if (changed && holding is not null)
            Tell(holding);
        if (changed)
            Changed?.Invoke();
        return holding;
    }

    private void Tell(Holding holding)
    {
        if (holding.Message is { } message)
            logger.LogWarning("Claim {Namespace}/{Name}: {State}, {Reason}: {Message}", holding.Request.ClaimNamespace, holding.Request.ClaimName, holding.State, holding.Reason, message);
    }

    /// <summary>A claim's work: its watchdog makes the holding Stuck while a call of the kernel doesn't return.</summary>
    private sealed class ClaimWork
    {
        private readonly PassthroughHost host;
        private readonly string uid;
        private readonly TaskCompletionSource<Holding?> result = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly AssignmentRequest? request;
        private Holding? beforeStall;

        /// <param name="host">The host.</param>
        /// <param name="uid">The claim's.</param>
        /// <param name="request">What is prepared; null: a release.</param>
        public ClaimWork(PassthroughHost host, string uid, AssignmentRequest? request)
        {
            this.host = host;
            this.uid = uid;
            this.request = request;
            Work = new BlockingWork(host.time, host.options.WriteTimeout) { Stalled = OnStalled, Resumed = OnResumed };
        }

        public bool IsPrepare => request is not null;

        public BlockingWork Work { get; }

        public Task<Holding?> Result => result.Task;

        /// <summary>What the kernel has not finished, when the work is or was stalled.</summary>
        public string? StalledAt { get; private set; }

        public void Start(string name, Func<Holding?> body)
        {
            // Known before it runs, so that those who come together look together.
            if (IsPrepare)
                host.looks.Usage.Expect(Work);
            else
                host.looks.Processes.Expect(Work);
            Work.Start(name, () => Run(body));
        }

        private void Run(Func<Holding?> body)
        {
            Holding? holding = null;
            Exception? failure = null;
            try
            {
                holding = body();
            }
#pragma warning disable CA1031 // handed to whoever waits for the result
            catch (Exception e)
#pragma warning restore CA1031
            {
                failure = e;
            }

            host.looks.Usage.Leave(Work);
            host.looks.Processes.Leave(Work);
            if (failure is null)
                host.Publish(uid, holding);
            lock (host.gate)
            {
                host.works.Remove(uid);
                host.inherited.Remove(uid);
            }

            if (failure is null)
                result.TrySetResult(holding);
            else
                result.TrySetException(failure);
        }

        private void OnStalled(string doing)
        {
            StalledAt = doing;
            lock (host.gate)
                beforeStall = host.holdings.GetValueOrDefault(uid);
            if (beforeStall is null && request is not null)
            {
                // Nothing is in the journal yet; but the claim isn't free to go before the kernel has answered.
                host.Publish(uid, host.Stalled(request, this));
            }
            else if (beforeStall is not null)
            {
                host.Publish(uid, beforeStall with
                {
                    State = HoldingState.Stuck,
                    Reason = HoldingReasons.WriteBlocked,
                    Message = $"The kernel has not finished {doing} for {host.options.WriteTimeout.TotalSeconds:0} s; it can't be cancelled. A process may still use the device: stop it. The work goes on when the kernel does.",
                });
            }
        }

        private void OnResumed() => host.Publish(uid, beforeStall);
    }
}
