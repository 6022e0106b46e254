using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// A Linux host's passthrough: inventory, guards, journal, binding, release and SR-IOV. Thread-safe; each claim is worked
/// on by a thread of its own, and claims never wait for each other: what they may touch is reserved first.
/// </summary>
/// <remarks>It only joins the objects that do the work, and owns no state; <see cref="ClaimTable"/> says which lock guards what.</remarks>
public sealed class PassthroughHost
{
    private readonly HostChanges _changes = new();
    private readonly Guards _guards;
    private readonly ClaimTable _table;
    private readonly HostScanner _scanner;
    private readonly WithheldMarks _withheld;
    private readonly ClaimRunner _claims;
    private readonly VfResizer _vfs;

    /// <summary>
    /// A host seen through <paramref name="files"/>, with its journal under <paramref name="stateDirectory"/> (absolute, on the host).
    /// </summary>
    public PassthroughHost(
        IHostFileSystem files,
        string stateDirectory,
        TimeProvider? time = null,
        ILogger? logger = null,
        PassthroughHostOptions? options = null
    )
    {
        time ??= TimeProvider.System;
        logger ??= NullLogger.Instance;
        options ??= new PassthroughHostOptions();
        stateDirectory = stateDirectory.TrimEnd('/');
        _guards = new Guards(options.DeniedDrivers);
        var looked = new TimedReadFileSystem(files, time);
        var diagnosis = new HostDiagnosis(looked);
        var memory = new DeviceMemory(files, stateDirectory);
        var twins = new Twins();
        _table = new ClaimTable(files, stateDirectory, memory, logger, _changes);
        _withheld = new WithheldMarks(files, memory, _table, diagnosis, time, logger, options.NodeName);
        _scanner = new HostScanner(
            looked,
            stateDirectory,
            _guards,
            twins,
            _table,
            new DriftCheck(files, looked, _table),
            _withheld,
            diagnosis,
            _changes,
            time,
            logger,
            options.LookTimeout
        );
        var cleaning = new DeviceCleaning(memory, _table, time, logger, options.ResetPatience, tried => ResetTried?.Invoke(tried));
        var reads = new SharedReads(options.LookPatience);
        _vfs = new VfResizer(files, reads, _table, _guards, cleaning, _changes, time, options);
        _claims = new ClaimRunner(
            new ClaimTools(files, stateDirectory, _table, reads, _guards, twins, _withheld, cleaning, time, logger),
            options.WriteTimeout
        );
    }

    /// <summary>A holding was added, changed or removed. Raised outside of locks, from any thread.</summary>
    public event Action? Changed
    {
        add => _changes.Changed += value;
        remove => _changes.Changed -= value;
    }

    /// <summary>A reset was tried, before or after a claim. Raised outside of locks, from any thread; must be quick and not throw.</summary>
    public event Action<ResetTry>? ResetTried;

    /// <summary>
    /// Devices that a person gives away although a guard refuses them; each member of a group needs its own, and the host's consent: a line
    /// in STATE/guard-overrides. Never what the agent can't see, what VFIO runs without an IOMMU, what somebody else has on VFIO, or what
    /// the host runs from: root, boot, the kubelet's and the container runtime's disks, the interface with the default route. Can be set at
    /// any time.
    /// </summary>
    public IReadOnlyList<GuardOverride> GuardOverrides
    {
        get => _guards.Overrides;
        set
        {
            if (_guards.Overrides.SequenceEqual(value))
                return;
            _guards.Overrides = value;
            _changes.Raise();
        }
    }

    /// <summary>What the journal holds, by claim UID; never Rejected ones.</summary>
    public IReadOnlyList<Holding> Holdings => _table.Holdings;

    /// <summary>The journal was loaded.</summary>
    public bool IsRecovered => _table.IsRecovered;

    /// <summary>Reasons that a scan gives and takes back; while one stands, preparing the claim again would change nothing.</summary>
    /// <param name="reason">A holding's reason.</param>
    public static bool IsDrift(string? reason) => DriftCheck.IsDrift(reason);

    /// <summary>Looks at every PCI function and its guards, and says on the holdings whose devices are gone or changed.</summary>
    /// <param name="fresh">Read the serial numbers again too: for after PCI devices came or went.</param>
    /// <exception cref="HostIoException">The host can't be read at all.</exception>
    /// <exception cref="JournalException">What is remembered of a device was written by a newer agent.</exception>
    public HostSnapshot Scan(bool fresh = false) => _scanner.Scan(null, fresh);

    /// <summary>
    /// Looks again at what the kernel said something about, and at what may have changed along with that; how the host uses
    /// its devices and its own facts are read anew. The first look is a look at everything.
    /// </summary>
    /// <param name="heard">All uevents since the look before.</param>
    /// <exception cref="HostIoException">The host can't be read at all.</exception>
    /// <exception cref="JournalException">What is remembered of a device was written by a newer agent.</exception>
    public HostSnapshot Scan(IReadOnlyCollection<Uevent> heard) => _scanner.Scan(heard, heard.Any(u => u.Overrun));

    /// <summary>Loads the journal; entries stay as they are until they are prepared or released again.</summary>
    /// <exception cref="JournalException">An entry is of a newer format: this agent must not act.</exception>
    /// <exception cref="StateFolderInUseException">Another agent works on this host.</exception>
    /// <exception cref="HostIoException">The journal can't be read; or (<see cref="IsRecovered"/>) it was, and what writes that were cut
    /// off left can't be removed.</exception>
    public Task RecoverAsync(CancellationToken ct = default)
    {
        ct.ThrowIfCancellationRequested();
        _table.Recover();
        _changes.Raise();
        return Task.CompletedTask;
    }

    /// <summary>
    /// Binds the claim's devices and verifies them; says at once what is so already, and finishes what is half done.
    /// </summary>
    /// <returns>Prepared; Rejected: nothing is held for the claim any more and everything is as it was; or Stuck.</returns>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    /// <exception cref="HostIoException">The journal wasn't loaded before, and can't be.</exception>
    public Task<Holding> PrepareAsync(AssignmentRequest request, CancellationToken ct = default) => _claims.PrepareAsync(request, ct);

    /// <summary>
    /// Gives the claim's devices back: each to its own driver, with its override and its number of VFs, then clears the
    /// journal. While a process has a device open it says Releasing and why; call again.
    /// </summary>
    /// <returns>Null: nothing is held for the claim any more. Otherwise Releasing or Stuck.</returns>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public Task<Holding?> ReleaseAsync(string claimUid, CancellationToken ct = default) => _claims.ReleaseAsync(claimUid, ct);

    /// <summary>
    /// Gives a PF a number of VFs, through 0 when it has another number (the kernel's rule), and waits until they are there.
    /// Refused while a claim holds the PF or one of its VFs, or while the host uses a VF that would go. Begun again after any
    /// interruption it goes on from what is there.
    /// </summary>
    /// <param name="pf">The PF.</param>
    /// <param name="numVfs">0 to sriov_totalvfs.</param>
    /// <param name="autoprobe">sriov_drivers_autoprobe: whether VFs get their host driver; null leaves it alone.</param>
    /// <param name="ct">Stops waiting; what the kernel has begun goes on.</param>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public Task<SriovOutcome> SetVfsAsync(PciAddress pf, int numVfs, bool? autoprobe = null, CancellationToken ct = default) =>
        _vfs.SetVfsAsync(pf, numVfs, autoprobe, ct);

    /// <summary>An administrator frees a device that a claim with oneTimeUse had.</summary>
    /// <returns>False: nothing to free, or a claim holds the device.</returns>
    /// <exception cref="HostIoException">The mark can't be removed.</exception>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public bool ClearUsedOnce(PciAddress address)
    {
        _table.Load();
        if (_table.IsHeld(address))
            return false;
        bool freed = _withheld.Free(_scanner.ReadOne(address), address);
        if (freed)
            _changes.Raise();
        return freed;
    }
}

/// <summary>Tells whoever wants to know that something of the host's holdings has changed. Never told under a lock.</summary>
internal sealed class HostChanges
{
    public event Action? Changed;

    public void Raise() => Changed?.Invoke();
}
