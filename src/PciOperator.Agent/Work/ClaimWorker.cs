using System.Diagnostics;
using System.Text;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Agent;

/// <summary>What one round of the agent goes by.</summary>
/// <param name="Node">The PciNode.</param>
/// <param name="Rules">Its rules, parsed.</param>
/// <param name="Wanted">Its assignments by their claims' UIDs.</param>
/// <param name="Host">The host as it was seen last.</param>
/// <param name="Seen">Its functions by address.</param>
internal sealed record AgentRound(
    PciNode Node,
    CompiledRules Rules,
    IReadOnlyDictionary<string, PciAssignment> Wanted,
    HostSnapshot Host,
    IReadOnlyDictionary<PciAddress, HostFunction> Seen
);

/// <summary>
/// The claims' work: which is begun, when what failed is tried again, and what is said of it. Level-triggered: each round compares what
/// is assigned with what is held.
/// </summary>
internal sealed class ClaimWorker
{
    // How often the host could not be read for a claim: what fails so is tried again before it is refused.
    private const int MostUnreadable = 3;

    private readonly PassthroughHost _host;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly EventRecorder _events;
    private readonly Action<bool> _look;
    private readonly Func<string, CancellationToken, Task> _takeBack;
    private readonly Histogram _preparing;
    private readonly Histogram _releasing;
    private readonly Counter _refused;
    private readonly Counter _notPrepared;
    private readonly Counter _notReleased;
    private readonly Gauge _held;

    // Guards all that follows. The host's holdings are asked for under it, so that what ends meanwhile is in one of the two; never the
    // other way round.
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Task> _work = [];
    private readonly Dictionary<string, PciAssignment> _begun = [];
    private readonly Dictionary<string, Holding> _refusals = [];
    private readonly Dictionary<string, int> _unreadable = [];

    // Prepared and looked at since the agent started: from then on every scan looks.
    private readonly HashSet<string> _verified = [];
    private readonly Dictionary<string, (HoldingState, string?)> _said = [];
    private readonly Retries _retries;

    /// <param name="host">The host.</param>
    /// <param name="retry">The first delay before what failed is tried again.</param>
    /// <param name="time">What delays are measured by.</param>
    /// <param name="log">Where it is said what became of a claim.</param>
    /// <param name="metrics">Where its metrics are.</param>
    /// <param name="events">Events of the PciNode.</param>
    /// <param name="look">Asks for another round: true when the host has changed.</param>
    /// <param name="takeBack">Takes back what the kubelet was handed of a claim.</param>
    public ClaimWorker(
        PassthroughHost host,
        TimeSpan retry,
        TimeProvider time,
        ILogger log,
        CollectorRegistry metrics,
        EventRecorder events,
        Action<bool> look,
        Func<string, CancellationToken, Task> takeBack
    )
    {
        (_host, _time, _log, _events, _look, _takeBack) = (host, time, log, events, look, takeBack);
        _retries = new Retries(retry, time);
        MetricFactory factory = Metrics.WithCustomRegistry(metrics);
        _preparing = factory.CreateHistogram(
            "pcioperator_agent_prepare_duration_seconds",
            "Time to check, bind and verify one assignment, by outcome.",
            ["outcome"],
            HistogramBuckets.Seconds
        );
        _releasing = factory.CreateHistogram(
            "pcioperator_agent_release_duration_seconds",
            "Time to give one assignment's devices back to the host.",
            HistogramBuckets.Seconds
        );
        _refused = factory.CreateCounter(
            "pcioperator_agent_refused_assignments_total",
            "Assignments that the agent refused, by reason.",
            ["reason"]
        );
        _notPrepared = factory.CreateCounter(
            "pcioperator_agent_prepare_failures_total",
            "Tries to bind an assignment's devices that did not succeed, refusals included, by reason.",
            ["reason"]
        );
        _notReleased = factory.CreateCounter(
            "pcioperator_agent_release_failures_total",
            "Tries to give an assignment's devices back that did not succeed, by reason.",
            ["reason"]
        );
        _held = factory.CreateGauge("pcioperator_agent_held_assignments", "Assignments in the agent's journal.");
    }

    /// <summary>Whether work could be begun for a device that was not seen yet.</summary>
    public bool WaitsForUnseen(IReadOnlyDictionary<string, PciAssignment> wanted, IReadOnlyDictionary<PciAddress, HostFunction> seen)
    {
        lock (_lock)
        {
            var held = _host.Holdings.Select(h => h.ClaimUid).ToHashSet();
            return wanted.Values.Any(a =>
                !held.Contains(a.ClaimUid)
                && !_refusals.ContainsKey(a.ClaimUid)
                && a.Devices.Any(d => !seen.ContainsKey(PciAddress.Parse(d.Address)))
            );
        }
    }

    /// <summary>Starts whatever has to be done: releases first, since a device may be wanted by its next owner.</summary>
    /// <param name="round">What is wanted, and what the host shows.</param>
    /// <param name="mayBringVfs">Whether VFs that aren't there may be there soon.</param>
    /// <param name="ct">Stops waiting for work; what is under way on the host goes on.</param>
    public void Start(AgentRound round, bool mayBringVfs, CancellationToken ct)
    {
        lock (_lock)
        {
            foreach (
                string uid in _refusals
                    .Keys.Where(u => !round.Wanted.TryGetValue(u, out PciAssignment? a) || !IsOf(a, _refusals[u]))
                    .ToList()
            )
            {
                _refusals.Remove(uid);
            }

            var holdings = _host.Holdings.ToDictionary(h => h.ClaimUid);
            StartReleases(round, holdings.Values, ct);
            StartPreparations(round, holdings, mayBringVfs, ct);
            ForgetAllBut(round.Wanted, holdings);
            _held.Set(holdings.Count);
        }
    }

    /// <summary>All that is held, refused or about to be held, by claim UID: what the PciNode's status says.</summary>
    /// <param name="wanted">The assignments.</param>
    /// <param name="heldBeforeScan">What was held before the last scan.</param>
    public IReadOnlyList<Holding> Known(IReadOnlyDictionary<string, PciAssignment> wanted, IReadOnlyList<Holding> heldBeforeScan)
    {
        lock (_lock)
        {
            var known = _host.Holdings.ToDictionary(h => h.ClaimUid);
            // What was given back after the scan looks free in it, and may be withheld: it is held until the next look.
            foreach (Holding gone in heldBeforeScan)
                known.TryAdd(gone.ClaimUid, gone with { State = HoldingState.Releasing, Reason = null, Message = null });
            foreach ((string uid, Holding refusal) in _refusals)
                known.TryAdd(uid, refusal);
            // What is being looked at may be held in a moment, also when it is withdrawn meanwhile: nobody may think it is not there.
            foreach ((string uid, PciAssignment assignment) in wanted.Concat(_begun))
            {
                if (!known.ContainsKey(uid))
                    known[uid] = HostMapping.Waiting(assignment);
            }

            return [.. known.Values.OrderBy(h => h.ClaimUid, StringComparer.Ordinal)];
        }
    }

    /// <summary>What was said when an assigned claim was refused; null: it was not.</summary>
    public string? WhyRefused(string claimUid)
    {
        lock (_lock)
            return _refusals.GetValueOrDefault(claimUid)?.Message;
    }

    private void StartReleases(AgentRound round, IEnumerable<Holding> holdings, CancellationToken ct)
    {
        foreach (Holding holding in holdings)
        {
            SayTrouble(holding, round.Node);
            if (holding.State != HoldingState.Prepared)
                _verified.Remove(holding.ClaimUid);
            // A PciNode that was made anew says nothing yet of what is held here: the controller asks first.
            if (round.Node.Spec.Settling == true)
                continue;
            if (!round.Wanted.TryGetValue(holding.ClaimUid, out PciAssignment? assignment) || !IsOf(assignment, holding))
            {
                Begin(
                    "release/" + holding.ClaimUid,
                    holding.ClaimUid,
                    Circumstances(holding.Request, holding, round.Seen),
                    () => ReleaseAsync(holding, round.Node.Metadata.Name, ct),
                    ct
                );
            }
        }
    }

    private void StartPreparations(AgentRound round, Dictionary<string, Holding> holdings, bool mayBringVfs, CancellationToken ct)
    {
        IReadOnlyDictionary<PciAddress, string>? matched = null;
        Dictionary<PciAddress, string> holders = Holders(holdings);
        foreach ((string uid, PciAssignment assignment) in round.Wanted)
        {
            Holding? known = holdings.GetValueOrDefault(uid);
            if (Rests(uid, known))
                continue;
            // Its last owner's release is under way: the end of that wakes us.
            if (assignment.Devices.Any(d => holders.TryGetValue(PciAddress.Parse(d.Address), out string? holder) && holder != uid))
                continue;
            AssignmentRequest request = HostMapping.Request(assignment);
            // After a boot its VF may not have been made yet: the end of that wakes us.
            if (mayBringVfs && request.Devices.Any(d => !round.Seen.ContainsKey(d.Address)))
                continue;
            // What is held already was allowed when it was taken: a rule that goes takes effect when the device is free.
            if (
                known is null
                && !_work.ContainsKey(uid)
                && AllowedDevices.Refuse(request, round.Seen, matched ??= round.Rules.Match(round.Host), round.Rules) is { } refusal
            )
            {
                using Activity? span = StartSpan(ClaimTrace.Prepare, request, round.Node.Metadata.Name);
                span.Fail(refusal.Reason, refusal.Message);
                Refuse(refusal);
                continue;
            }

            string circumstances = Circumstances(request, known, round.Seen);
            if (Begin("prepare/" + uid, uid, circumstances, () => PrepareAsync(request, known, round.Node.Metadata.Name, ct), ct))
                _begun[uid] = assignment;
        }
    }

    private static Dictionary<PciAddress, string> Holders(Dictionary<string, Holding> holdings)
    {
        var holders = new Dictionary<PciAddress, string>();
        foreach ((string uid, Holding holding) in holdings)
        {
            foreach (DeviceToTake device in holding.Request.Devices)
                holders[device.Address] = uid;
        }

        return holders;
    }

    /// <summary>
    /// Whether nothing is to be begun for an assigned claim: it is refused, verified, or waits for what a scan has found missing and a scan
    /// finds again.
    /// </summary>
    private bool Rests(string uid, Holding? known) =>
        _refusals.ContainsKey(uid)
        || _verified.Contains(uid)
        || (known is { State: HoldingState.Stuck } && PassthroughHost.IsDrift(known.Reason));

    private void ForgetAllBut(IReadOnlyDictionary<string, PciAssignment> wanted, Dictionary<string, Holding> holdings)
    {
        _verified.IntersectWith(wanted.Keys);
        _retries.Keep(w => w.Split('/') is [_, var uid] && (wanted.ContainsKey(uid) || holdings.ContainsKey(uid)));
        foreach (string uid in _unreadable.Keys.Where(u => !wanted.ContainsKey(u) || holdings.ContainsKey(u)).ToList())
            _unreadable.Remove(uid);
        foreach (string uid in _said.Keys.Where(u => !holdings.ContainsKey(u)).ToList())
            _said.Remove(uid);
    }

    /// <summary>Begins work on a claim unless some is under way or it is too early to try again. The work says how it ended.</summary>
    private bool Begin(string name, string uid, string circumstances, Func<Task<WorkEnd>> work, CancellationToken ct)
    {
        if (_work.ContainsKey(uid) || !_retries.MayStart(name, circumstances))
            return false;
        _work[uid] = Task.Run(
            async () =>
            {
                WorkEnd end = WorkEnd.Failed;
                try
                {
                    end = await work();
                }
                catch (Exception error) when (error is not OperationCanceledException)
                {
                    _log.LogError(error, "{Work}: failed and is tried again: {Message}", name, error.Message);
                }
                finally
                {
                    lock (_lock)
                    {
                        _work.Remove(uid);
                        _begun.Remove(uid);
                        if (end == WorkEnd.Done)
                            _retries.Forget(name);
                        else
                            _ = AgainAsync(_retries.Failed(name, end == WorkEnd.Waits), ct);
                    }

                    // Who only waits has changed nothing that is not said otherwise.
                    _look(end != WorkEnd.Waits);
                }
            },
            CancellationToken.None
        );
        return true;
    }

    private async Task AgainAsync(TimeSpan delay, CancellationToken ct)
    {
        await Task.Delay(delay, _time, ct);
        _look(false);
    }

    private static Activity? StartSpan(string span, AssignmentRequest request, string node) =>
        ClaimTrace
            .Start(span, request.ClaimUid, request.ClaimNamespace, request.ClaimName)
            ?.SetTag(ClaimTrace.Node, node)
            .SetTag(ClaimTrace.Devices, string.Join(',', request.Devices.Select(d => d.Address)));

    private async Task<WorkEnd> PrepareAsync(AssignmentRequest request, Holding? before, string node, CancellationToken ct)
    {
        using Activity? span = StartSpan(ClaimTrace.Prepare, request, node);
        long began = _time.GetTimestamp();
        Holding holding = await _host.PrepareAsync(request, ct);
        span?.SetTag(
            ClaimTrace.Outcome,
            holding.State != HoldingState.Prepared ? holding.State.ToString().ToLowerInvariant()
                : before?.State == HoldingState.Prepared ? "verified"
                : "prepared"
        );
        if (holding.State != HoldingState.Prepared)
            span.Fail(holding.Reason, holding.Message);
        _preparing
            .WithLabels(holding.State == HoldingState.Prepared ? "prepared" : "refused")
            .Observe(_time.GetElapsedTime(began).TotalSeconds);
        if (holding.State != HoldingState.Prepared)
            _notPrepared.WithLabels(TenantWords.Label(holding.Reason)).Inc();
        switch (holding.State)
        {
            case HoldingState.Prepared:
                lock (_lock)
                    _verified.Add(request.ClaimUid);
                if (before?.State == HoldingState.Prepared)
                    return WorkEnd.Done; // looked at again after a restart of the agent
                _log.LogInformation(
                    "claim {Claim}: {Devices} bound",
                    request.ClaimName,
                    string.Join(", ", request.Devices.Select(d => d.Address))
                );
                return WorkEnd.Done;
            case HoldingState.Rejected when MayBeReadAgain(holding):
                return WorkEnd.Failed;
            case HoldingState.Rejected:
                Refuse(HostMapping.Blame(holding, _host.Scan()));
                return WorkEnd.Done;
            default:
                return holding.Reason is HoldingReasons.InUse or HoldingReasons.NotBound ? WorkEnd.Waits : WorkEnd.Failed;
        }
    }

    /// <summary>The claim doesn't get its devices here: for the PciNode's status and the log; the controller says it in events.</summary>
    private void Refuse(Holding refusal)
    {
        lock (_lock)
            _refusals[refusal.ClaimUid] = refusal;
        _refused.WithLabels(TenantWords.Label(refusal.Reason)).Inc();
        _log.LogWarning("claim {Claim} refused: {Message}", refusal.Request.ClaimName, refusal.Message);
    }

    /// <summary>
    /// Whether nothing is said against the devices, and the host may be read the next time: a refusal would cost the claim its place.
    /// </summary>
    private bool MayBeReadAgain(Holding rejected)
    {
        if (rejected.Reason != HoldingReasons.HostUnreadable)
            return false;
        lock (_lock)
        {
            int times = _unreadable[rejected.ClaimUid] = _unreadable.GetValueOrDefault(rejected.ClaimUid) + 1;
            if (times >= MostUnreadable)
                return !_unreadable.Remove(rejected.ClaimUid);
        }

        _log.LogWarning(
            "claim {Claim}: the host can't be read, which is tried again: {Message}",
            rejected.Request.ClaimName,
            rejected.Message
        );
        return true;
    }

    private async Task<WorkEnd> ReleaseAsync(Holding holding, string node, CancellationToken ct)
    {
        using Activity? span = StartSpan(ClaimTrace.Release, holding.Request, node);
        long began = _time.GetTimestamp();
        lock (_lock)
            _verified.Remove(holding.ClaimUid);
        // Before anything else: what goes back to the host must not be given to another container meanwhile.
        await _takeBack(holding.ClaimUid, ct);
        Holding? left = await _host.ReleaseAsync(holding.ClaimUid, ct);
        if (left is not null)
        {
            _notReleased.WithLabels(TenantWords.Label(left.Reason)).Inc();
            span.Fail(left.Reason, left.Message);
            return left.Reason == HoldingReasons.InUse ? WorkEnd.Waits : WorkEnd.Failed;
        }

        _releasing.Observe(_time.GetElapsedTime(began).TotalSeconds);
        _log.LogInformation("claim {Claim}: devices are back on the host", holding.Request.ClaimName);
        return WorkEnd.Done;
    }

    /// <summary>One event for each trouble of a claim, however long it lasts.</summary>
    private void SayTrouble(Holding holding, PciNode node)
    {
        (HoldingState State, string? Reason) now = (holding.State, holding.Reason);
        if (_said.TryGetValue(holding.ClaimUid, out (HoldingState, string?) said) && said == now)
            return;
        _said[holding.ClaimUid] = now;
        if (holding.Message is not { } message || holding.Request.ClaimName.Length == 0)
            return;
        string claim = $"{holding.Request.ClaimNamespace}/{holding.Request.ClaimName}";
        _log.LogWarning("claim {Claim}: {Message}", claim, message);
        // What a tenant is to hear of it the controller says: an agent writes about its own node alone.
        _events.Warning(
            node,
            TenantWords.Reason(holding.Reason, holding.State.ToString()),
            $"claim {claim}: {message}",
            holding.State == HoldingState.Releasing ? "Release" : "Bind"
        );
    }

    /// <summary>
    /// What the work on some devices depends on, as far as a scan shows it: when it changes, what failed is worth trying again.
    /// </summary>
    private static string Circumstances(AssignmentRequest request, Holding? holding, IReadOnlyDictionary<PciAddress, HostFunction> seen)
    {
        StringBuilder text = new StringBuilder().Append(holding?.State).Append(holding?.Reason).Append(';');
        foreach (DeviceToTake device in request.Devices)
        {
            text.Append(device.Address).Append(' ').Append(device.StableId);
            if (seen.TryGetValue(device.Address, out HostFunction? f))
            {
                text.Append(' ')
                    .Append(f.Function.VendorId)
                    .Append(f.Function.ProductId)
                    .Append(f.Function.StableId)
                    .Append(f.Function.IommuGroup)
                    .Append(f.Driver)
                    .Append(f.GuardReason)
                    .Append(f.WithheldBy);
            }

            text.Append(';');
        }

        return text.ToString();
    }

    /// <summary>Whether a holding is of the devices that an assignment names.</summary>
    internal static bool IsOf(PciAssignment assignment, Holding holding) =>
        assignment.Devices.Count == holding.Request.Devices.Count
        && assignment.Devices.All(d => holding.Request.Devices.Any(h => h.Address == PciAddress.Parse(d.Address)));

    private enum WorkEnd
    {
        /// <summary>There is nothing more to do, now.</summary>
        Done,

        /// <summary>Somebody whose end can't be seen stands in the way.</summary>
        Waits,

        /// <summary>It did not succeed.</summary>
        Failed,
    }
}
