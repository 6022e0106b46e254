using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Looks at everything: each look on a thread of its own, since a read may block too (<see cref="TimedReadFileSystem"/>). Looks may
/// overlap; what is remembered between them is the last one's.
/// </summary>
/// <param name="looked">The host, as a look sees it.</param>
/// <param name="stateDirectory">The agent's folder, with the host's consent to overrides.</param>
/// <param name="guards">What keeps the host alive.</param>
/// <param name="twins">Stable ids that are seen twice.</param>
/// <param name="table">The claims.</param>
/// <param name="drift">Says on the holdings whose devices are gone or changed.</param>
/// <param name="withheld">What is remembered against giving a device away.</param>
/// <param name="diagnosis">The host's own facts.</param>
/// <param name="changes">Told when a device answers after all.</param>
/// <param name="time">What limits are measured by.</param>
/// <param name="logger">Where what does not answer is said.</param>
/// <param name="limit">How long one read may hold up a look.</param>
internal sealed class HostScanner(
    TimedReadFileSystem looked,
    string stateDirectory,
    Guards guards,
    Twins twins,
    ClaimTable table,
    DriftCheck drift,
    WithheldMarks withheld,
    HostDiagnosis diagnosis,
    HostChanges changes,
    TimeProvider time,
    ILogger logger,
    TimeSpan limit
)
{
    private volatile FunctionCache _cache = new(looked, time);
    private volatile IReadOnlyList<HostFunction> _lastSeen = [];
    private volatile StrongBox<bool>? _vfioLoadable;

    /// <summary>Looks at every function, or at what <paramref name="heard"/> concerns.</summary>
    /// <param name="heard">All uevents since the look before; null: look at everything.</param>
    /// <param name="fresh">Read the serial numbers again too.</param>
    public HostSnapshot Scan(IReadOnlyCollection<Uevent>? heard, bool fresh)
    {
        while (true)
        {
            LookOutcome<HostSnapshot> outcome = looked.Run(() => Look(heard, fresh), limit, changes.Raise);
            if (outcome.Seen is { } snapshot)
                return snapshot;

            // What that look has locked and remembers stays with it.
            logger.LogWarning("A device is left out of looks at the host until it answers: {What}.", outcome.Hangs);
            _cache = new FunctionCache(looked, time);
        }
    }

    /// <summary>One device as it is now; null when none is there.</summary>
    /// <exception cref="HostIoException">It can't be looked at.</exception>
    public HostFunction? ReadOne(PciAddress address)
    {
        LookOutcome<HostFunction?> look = looked.Run(
            () => new Inventory(looked).ReadNow([address], HostUse.Read(looked)).SingleOrDefault(),
            limit,
            changes.Raise
        );
        if (look.Hangs is { } hangs)
            throw new HostIoException("look", $"{SysfsPaths.Device(address)}", Errnos.ETIMEDOUT, $"{address} can't be looked at: {hangs}.");
        return look.Seen is { } seen ? twins.Tell(seen) : null;
    }

    private HostSnapshot Look(IReadOnlyCollection<Uevent>? heard, bool fresh)
    {
        List<JournalEntry> settled = table.Settled();
        guards.Consent = GuardConsent.Read(looked, stateDirectory);
        var problems = new List<string>();
        var use = HostUse.Read(looked);
        List<HostFunction> functions = WithSilent(
            twins.Tell(_cache.See(heard, settled, use, table.IsHeld, table.Locked(), fresh, problems), table.HeldId)
        );
        drift.Notice(settled, functions);
        _vfioLoadable ??= new StrongBox<bool>(HostFacts.IsLoadable(looked));
        IommuFacts iommu = HostFacts.Iommu(looked, diagnosis.BootBy(looked));
        string kernel = HostFacts.KernelVersion(looked);
        string boot = HostFacts.BootId(looked);
        HashSet<PciAddress> held = table.HeldOf(functions);
        return new HostSnapshot
        {
            Functions = withheld.Mark(guards.CheckTogether(functions, use, held), held, boot, kernel, looked),
            KernelVersion = kernel,
            BootId = boot,
            NumaNodes = HostFacts.NumaNodes(looked),
            Iommu = iommu,
            Vfio = HostFacts.Vfio(looked, _vfioLoadable.Value),
            Facts = diagnosis.Facts(iommu, functions),
            Problems = problems,
        };
    }

    /// <summary>Devices that don't answer are there as they were seen last, withheld.</summary>
    private List<HostFunction> WithSilent(List<HostFunction> functions)
    {
        IReadOnlyList<HostFunction> before = _lastSeen;
        _lastSeen = functions;
        if (looked.Silent.Count == 0)
            return functions;
        HashSet<PciAddress> seen = [.. functions.Select(f => f.Address)];
        List<HostFunction> silent = [.. before.Where(f => !seen.Contains(f.Address) && looked.Silent.ContainsKey(f.Address))];
        _lastSeen = [.. functions.Concat(silent).OrderBy(f => f.Address)];
        return
        [
            .. functions
                .Concat(
                    silent.Select(f =>
                        f with
                        {
                            WithheldBy = WithheldWords.NotAnswering,
                            Withheld =
                                $"{f.Address} doesn't answer: the kernel has not finished {looked.Silent.GetValueOrDefault(f.Address, "a read")}, as when a driver can't let go of the device. A process may still use it: stop it.",
                        }
                    )
                )
                .OrderBy(f => f.Address),
        ];
    }
}
