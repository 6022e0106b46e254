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
    private readonly HostChanges changes = new();
    private readonly Guards guards;
    private readonly ClaimTable table;
    private readonly HostScanner scanner;
    private readonly WithheldMarks withheld;
    private readonly ClaimRunner claims;
    private readonly VfResizer vfs;

    /// <summary>A host seen through <paramref name="files"/>, with its journal under <paramref name="stateDirectory"/> (absolute, on the host).</summary>
    public PassthroughHost(IHostFileSystem files, string stateDirectory, TimeProvider? time = null, ILogger? logger = null, PassthroughHostOptions? options = null)
    {
        time ??= TimeProvider.System;
        logger ??= NullLogger.Instance;
        options ??= new PassthroughHostOptions();
        stateDirectory = stateDirectory.TrimEnd('/');
        guards = new Guards(options.DeniedDrivers);
        var looked = new TimedReadFileSystem(files, time);
        var diagnosis = new HostDiagnosis(looked);
        var memory = new DeviceMemory(files, stateDirectory);
        var twins = new Twins();
        table = new ClaimTable(files, stateDirectory, memory, logger, changes);
        withheld = new WithheldMarks(files, memory, table, diagnosis, time, logger, options.NodeName);
        scanner = new HostScanner(looked, stateDirectory, guards, twins, table, new DriftCheck(files, looked, table), withheld, diagnosis, changes, time, logger, options.LookTimeout);
        var cleaning = new DeviceCleaning(memory, table, time, logger, options.ResetPatience);
        var reads = new SharedReads(options.LookPatience);
        vfs = new VfResizer(files, reads, table, guards, cleaning, changes, time, options);
        claims = new ClaimRunner(new ClaimTools(files, stateDirectory, table, reads, guards, twins, withheld, cleaning, time, logger), options.WriteTimeout);
    }

    /// <summary>A holding was added, changed or removed. Raised outside of locks, from any thread.</summary>
    public event Action? Changed
    {
        add => changes.Changed += value;
        remove => changes.Changed -= value;
    }

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
            changes.Raise();
        }
    }

    /// <summary>What the journal holds, by claim UID; never Rejected ones.</summary>
    public IReadOnlyList<Holding> Holdings => table.Holdings;

    /// <summary>The journal was loaded.</summary>
    public bool IsRecovered => table.IsRecovered;

    /// <summary>Reasons that a scan gives and takes back; while one stands, preparing the claim again would change nothing.</summary>
    /// <param name="reason">A holding's reason.</param>
    public static bool IsDrift(string? reason) => DriftCheck.IsDrift(reason);

    /// <summary>Looks at every PCI function and its guards, and says on the holdings whose devices are gone or changed.</summary>
    /// <param name="fresh">Read the serial numbers again too: for after PCI devices came or went.</param>
    /// <exception cref="HostIoException">The host can't be read at all.</exception>
    /// <exception cref="JournalException">What is remembered of a device was written by a newer agent.</exception>
    public HostSnapshot Scan(bool fresh = false) => scanner.Scan(null, fresh);

    /// <summary>
    /// Looks again at what the kernel said something about, and at what may have changed along with that; how the host uses
    /// its devices and its own facts are read anew. The first look is a look at everything.
    /// </summary>
    /// <param name="heard">All uevents since the look before.</param>
    /// <exception cref="HostIoException">The host can't be read at all.</exception>
    /// <exception cref="JournalException">What is remembered of a device was written by a newer agent.</exception>
    public HostSnapshot Scan(IReadOnlyCollection<Uevent> heard) => scanner.Scan(heard, heard.Any(u => u.Overrun));

    /// <summary>Loads the journal; entries stay as they are until they are prepared or released again.</summary>
    /// <exception cref="JournalException">An entry is of a newer format: this agent must not act.</exception>
    /// <exception cref="StateFolderInUseException">Another agent works on this host.</exception>
    /// <exception cref="HostIoException">The journal can't be read; or (<see cref="IsRecovered"/>) it was, and what writes that were cut off left can't be removed.</exception>
    public Task RecoverAsync(CancellationToken ct = default)
    {
        ct.ThrowIfCancellationRequested();
        table.Recover();
        changes.Raise();
        return Task.CompletedTask;
    }

    /// <summary>
    /// Binds the claim's devices and verifies them; says at once what is so already, and finishes what is half done.
    /// </summary>
    /// <returns>Prepared; Rejected: nothing is held for the claim any more and everything is as it was; or Stuck.</returns>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    /// <exception cref="HostIoException">The journal wasn't loaded before, and can't be.</exception>
    public Task<Holding> PrepareAsync(AssignmentRequest request, CancellationToken ct = default) => claims.PrepareAsync(request, ct);

    /// <summary>
    /// Gives the claim's devices back: each to its own driver, with its override and its number of VFs, then clears the
    /// journal. While a process has a device open it says Releasing and why; call again.
    /// </summary>
    /// <returns>Null: nothing is held for the claim any more. Otherwise Releasing or Stuck.</returns>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public Task<Holding?> ReleaseAsync(string claimUid, CancellationToken ct = default) => claims.ReleaseAsync(claimUid, ct);

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
        vfs.SetVfsAsync(pf, numVfs, autoprobe, ct);

    /// <summary>An administrator frees a device that a claim with oneTimeUse had.</summary>
    /// <returns>False: nothing to free, or a claim holds the device.</returns>
    /// <exception cref="HostIoException">The mark can't be removed.</exception>
    /// <exception cref="JournalException">See <see cref="RecoverAsync"/>.</exception>
    public bool ClearUsedOnce(PciAddress address)
    {
        table.Load();
        if (table.IsHeld(address))
            return false;
        bool freed = withheld.Free(scanner.ReadOne(address), address);
        if (freed)
            changes.Raise();
        return freed;
    }
}

/// <summary>Tells whoever wants to know that something of the host's holdings has changed. Never told under a lock.</summary>
internal sealed class HostChanges
{
    public event Action? Changed;

    public void Raise() => Changed?.Invoke();
}
