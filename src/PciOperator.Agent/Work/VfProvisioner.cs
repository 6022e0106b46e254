using System.Diagnostics;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Agent;

/// <summary>
/// Gives PFs the numbers of VFs that rules ask for. Level-triggered: each look compares what is wanted with what the host
/// shows, so a half-made number is finished by the next look, also of another agent or after a reboot. What fails is tried
/// again less and less often, and at once when the rule or the host changes.
/// </summary>
/// <param name="host">The host.</param>
/// <param name="time">What delays are measured by.</param>
/// <param name="log">Where changes and refusals are written, each once.</param>
/// <param name="retry">The first delay; doubled up to 150 times as long (5 minutes for 2 seconds).</param>
/// <param name="look">Asks for another look: true when the host has changed.</param>
internal sealed class VfProvisioner(PassthroughHost host, TimeProvider time, ILogger log, TimeSpan retry, Action<bool> look)
{
    private const int LongestRetry = 150;
    private const int MostNamed = 3;
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(16);
    private readonly Lock _lock = new();
    private readonly Retries _retries = new(retry, time, LongestRetry);
    private readonly HashSet<PciAddress> _running = [];

    // Where trying again can't help before a person has changed something.
    private readonly HashSet<PciAddress> _refused = [];

    // Where it may, in the half minute that a PF's driver may need after a boot.
    private readonly HashSet<PciAddress> _soon = [];
    private readonly Dictionary<PciAddress, string> _notes = [];

    /// <summary>Why a PF has not the number of VFs that its rule asks for, a sentence for each.</summary>
    public IReadOnlyDictionary<PciAddress, string> Notes
    {
        get
        {
            lock (_lock)
                return new Dictionary<PciAddress, string>(_notes);
        }
    }

    /// <summary>Whether a number is being changed now.</summary>
    public bool IsWorking
    {
        get
        {
            lock (_lock)
                return _running.Count > 0;
        }
    }

    /// <summary>Whether VFs that aren't there may be there soon: a number is being changed, or is about to be tried again.</summary>
    public bool MayBringVfs
    {
        get
        {
            lock (_lock)
                return _running.Count > 0 || _soon.Count > 0;
        }
    }

    /// <summary>Starts what is due.</summary>
    public void Look(PciNode node, HostSnapshot snapshot, CompiledRules rules, CancellationToken ct)
    {
        IReadOnlyDictionary<PciAddress, string> matched = rules.Match(snapshot);
        ILookup<PciAddress, HostFunction> vfs = snapshot
            .Functions.Where(f => f.Function.ParentAddress is not null)
            .ToLookup(f => f.Function.ParentAddress!.Value);
        var wanting = new HashSet<PciAddress>();
        Dictionary<PciAddress, string>? holders = null;
        lock (_lock)
        {
            foreach (HostFunction? pf in snapshot.Functions.Where(f => f.Function.Type == DeviceType.Pf))
            {
                if (!matched.TryGetValue(pf.Address, out string? rule) || rules.Policy(rule).Sriov is not { NumVfs: { } count } sriov)
                    continue;
                var present = vfs[pf.Address].ToList();
                var wish = new Wish(count, sriov.DriversAutoprobe);
                if (
                    pf.NumVfs == count
                    && present.Count == count
                    && (wish.Autoprobe is null || pf.VfsAutoprobe is null || wish.Autoprobe == pf.VfsAutoprobe)
                )
                {
                    continue;
                }

                wanting.Add(pf.Address);
                if (_running.Contains(pf.Address))
                    continue;
                if (pf.NumVfs != count && Blocker(pf.Address, present, holders ??= Holders(node)) is { } blocker)
                {
                    // It is done when they go: nothing to try until then.
                    Forget(pf.Address);
                    Note(pf.Address, $"{Wanted(count, pf.NumVfs)}: {blocker}");
                    continue;
                }

                if (_retries.MayStart($"{pf.Address}", Circumstances(pf, present, wish)))
                    Start(pf.Address, wish, node.Metadata.Name, ct);
            }

            foreach (PciAddress settled in _notes.Keys.Where(pf => !wanting.Contains(pf)).ToList())
            {
                _notes.Remove(settled);
                Forget(settled);
            }
        }
    }

    private static string Wanted(int count, int? now) => $"{Counted.Of(count, "VF")} wanted, has {now ?? 0}";

    /// <summary>What the kernel refused depends on the card and its driver; what the host's use of a VF forbade, on that use.</summary>
    private string Circumstances(HostFunction pf, List<HostFunction> vfs, Wish wish)
    {
        bool refused = _refused.Contains(pf.Address);
        return $"{wish} "
            + string.Join(
                ' ',
                (refused ? [] : vfs)
                    .Prepend(pf)
                    .Select(f =>
                        $"{f.Address} {f.Function.StableId} {f.Function.SriovTotalVfs} {f.Driver} {(refused ? "" : f.GuardReason)}"
                    )
            );
    }

    private void Forget(PciAddress pf)
    {
        _retries.Forget($"{pf}");
        _refused.Remove(pf);
        _soon.Remove(pf);
    }

    private void Start(PciAddress pf, Wish wish, string node, CancellationToken ct)
    {
        _running.Add(pf);
        _ = Task.Run(
            async () =>
            {
                string? failure = null;
                bool needsPerson = false,
                    known = false;
                using Activity? span = ClaimTrace.StartAlone(ClaimTrace.Vfs);
                span?.SetTag(ClaimTrace.Node, node).SetTag(ClaimTrace.Devices, pf.ToString()).SetTag(ClaimTrace.NumVfs, wish.NumVfs);
                try
                {
                    SriovOutcome outcome = await host.SetVfsAsync(pf, wish.NumVfs, wish.Autoprobe, ct);
                    needsPerson = outcome.NeedsPerson;

                    // Of a change that hangs the first word says more: what the kernel does not finish.
                    known = outcome.Reason == HoldingReasons.Busy;
                    if (outcome.Applied)
                        log.LogInformation("{Address}: {Count} virtual functions", pf, wish.NumVfs);
                    else
                        failure = $"{Wanted(wish.NumVfs, outcome.NumVfs)}: {outcome.Message}";
                    if (!outcome.Applied)
                        span.Fail(outcome.Reason, outcome.Message);
                }
                catch (Exception error) when (error is not OperationCanceledException)
                {
                    failure = $"{Counted.Of(wish.NumVfs, "VF")} wanted: {error.Message}";
                    span.Fail(error.GetType().Name, error.Message);
                }

                Finish(pf, failure, needsPerson, known, ct);
            },
            ct
        );
    }

    private void Finish(PciAddress pf, string? failure, bool needsPerson, bool known, CancellationToken ct)
    {
        TimeSpan? again = null;
        lock (_lock)
        {
            _running.Remove(pf);
            if (failure is null)
            {
                Forget(pf);
                _notes.Remove(pf);
            }
            else
            {
                again = _retries.Failed($"{pf}");
                _ = needsPerson ? _refused.Add(pf) : _refused.Remove(pf);
                _ = !needsPerson && again <= Soon ? _soon.Add(pf) : _soon.Remove(pf);
                if (!known || !_notes.ContainsKey(pf))
                    Note(pf, failure);
            }
        }

        look(true);
        if (again is { } delay)
            _ = AgainAsync(delay, ct);
    }

    private async Task AgainAsync(TimeSpan delay, CancellationToken ct)
    {
        await Task.Delay(delay, time, ct);
        look(false);
    }

    private void Note(PciAddress pf, string note)
    {
        if (!_notes.TryGetValue(pf, out string? known) || known != note)
            log.LogWarning("{Address}: {Note}", pf, note);
        _notes[pf] = note;
    }

    /// <summary>Who has what, by the spec and by the journal: "namespace/name" by device.</summary>
    private Dictionary<PciAddress, string> Holders(PciNode node)
    {
        var holders = new Dictionary<PciAddress, string>();
        foreach (PciAssignment assignment in node.Spec.Assignments ?? [])
        {
            foreach (AssignedDevice device in assignment.Devices)
                holders[PciAddress.Parse(device.Address)] = $"{assignment.ClaimNamespace}/{assignment.ClaimName}";
        }

        foreach (AssignmentRequest? request in host.Holdings.Select(h => h.Request))
        {
            foreach (DeviceToTake device in request.Devices)
                holders[device.Address] = $"{request.ClaimNamespace}/{request.ClaimName}";
        }

        return holders;
    }

    /// <summary>Who keeps the number from being changed, as "VF 0000:21:10.0 is held by claim team-a/nic"; null: nobody.</summary>
    private static string? Blocker(PciAddress pf, List<HostFunction> vfs, Dictionary<PciAddress, string> holders)
    {
        if (holders.TryGetValue(pf, out string? owner))
            return $"the PF itself is held by claim {owner}; done when it is released";
        var held = vfs.Where(vf => holders.ContainsKey(vf.Address))
            .Select(vf => $"VF {vf.Address} is held by claim {holders[vf.Address]}")
            .ToList();
        return held.Count == 0
            ? null
            : $"{string.Join(", ", held.Take(MostNamed))}{(held.Count > MostNamed ? $", and {held.Count - MostNamed} more are held" : "")}; done when {(held.Count == 1 ? "it is" : "they are")} released";
    }

    private readonly record struct Wish(int NumVfs, bool? Autoprobe);
}
