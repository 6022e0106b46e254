using System.Text;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using Prometheus;

namespace PciOperator.Agent;

/// <summary>The claims' work: which is begun, when what failed is tried again, and what is said of it.</summary>
public sealed partial class NodeAgent
{
    private readonly Dictionary<string, PciAssignment> _begun = [];
    private readonly Dictionary<string, Holding> _refusals = [];

    // How often the host could not be read for a claim: what fails so is tried again before it is refused.
    private const int MostUnreadable = 3;
    private readonly Dictionary<string, int> _unreadable = [];

    // Prepared and looked at since the agent started: from then on every scan looks.
    private readonly HashSet<string> _verified = [];
    private readonly Dictionary<string, (HoldingState, string?)> _said = [];
    private readonly Retries _retries;
    private readonly Histogram _preparing;
    private readonly Histogram _releasing;
    private readonly Counter _refused;
    private readonly Gauge _held;

    /// <summary>Starts whatever has to be done for claims: releases first, since a device may be wanted by its next owner.</summary>
    private void StartWork(Dictionary<string, PciAssignment> wanted, CompiledRules rules, bool settling, CancellationToken ct)
    {
        lock (_lock)
        {
            IReadOnlyDictionary<PciAddress, string>? matched = null;
            foreach (
                string uid in _refusals
                    .Keys.Where(u => !wanted.TryGetValue(u, out PciAssignment? a) || !SameDevices(a, _refusals[u]))
                    .ToList()
            )
            {
                _refusals.Remove(uid);
            }

            var holdings = _host.Holdings.ToDictionary(h => h.ClaimUid);
            var holders = new Dictionary<PciAddress, string>();
            foreach ((string? uid, Holding? holding) in holdings)
            {
                foreach (DeviceToTake device in holding.Request.Devices)
                    holders[device.Address] = uid;
                SayTrouble(holding);
                if (holding.State != HoldingState.Prepared)
                    _verified.Remove(uid);
                // A PciNode that was made anew says nothing yet of what is held here: the controller asks first.
                if (settling)
                    continue;
                if (!wanted.TryGetValue(uid, out PciAssignment? assignment) || !SameDevices(assignment, holding))
                    Begin("release/" + uid, uid, Circumstances(holding.Request, holding), () => ReleaseAsync(holding, ct), ct);
            }

            foreach ((string? uid, PciAssignment? assignment) in wanted)
            {
                if (_refusals.ContainsKey(uid) || _verified.Contains(uid))
                    continue;
                // What a scan has found missing a scan finds again.
                if (
                    holdings.TryGetValue(uid, out Holding? known)
                    && known.State == HoldingState.Stuck
                    && PassthroughHost.IsDrift(known.Reason)
                )
                {
                    continue;
                }
                // Its last owner's release is under way: the end of that wakes us.
                if (assignment.Devices.Any(d => holders.TryGetValue(PciAddress.Parse(d.Address), out string? holder) && holder != uid))
                    continue;
                AssignmentRequest request = HostMapping.Request(assignment);
                // After a boot its VF may not have been made yet: the end of that wakes us.
                if (_vfs.MayBringVfs && request.Devices.Any(d => !_seen.ContainsKey(d.Address)))
                    continue;
                // What is held already was allowed when it was taken: a rule that goes takes effect when the device is free.
                if (
                    known is null
                    && !_work.ContainsKey(uid)
                    && AllowedDevices.Refuse(request, _seen, matched ??= rules.Match(_snapshot!), rules) is { } refusal
                )
                {
                    Refuse(refusal);
                    continue;
                }

                if (Begin("prepare/" + uid, uid, Circumstances(request, known), () => PrepareAsync(request, known, ct), ct))
                    _begun[uid] = assignment;
            }

            _verified.IntersectWith(wanted.Keys);
            _retries.Keep(w => w.Split('/') is [_, var uid] && (wanted.ContainsKey(uid) || holdings.ContainsKey(uid)));
            foreach (string uid in _unreadable.Keys.Where(u => !wanted.ContainsKey(u) || holdings.ContainsKey(u)).ToList())
                _unreadable.Remove(uid);
            foreach (string uid in _said.Keys.Where(u => !holdings.ContainsKey(u)).ToList())
                _said.Remove(uid);
            _held.Set(holdings.Count);
        }
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
                            _ = WakeAfterAsync(_retries.Failed(name, end == WorkEnd.Waits), ct);
                    }

                    // Who only waits has changed nothing that is not said otherwise.
                    _rescan |= end != WorkEnd.Waits;
                    Wake();
                }
            },
            CancellationToken.None
        );
        return true;
    }

    private async Task<WorkEnd> PrepareAsync(AssignmentRequest request, Holding? before, CancellationToken ct)
    {
        long began = _time.GetTimestamp();
        Holding holding = await _host.PrepareAsync(request, ct);
        _preparing
            .WithLabels(holding.State == HoldingState.Prepared ? "prepared" : "refused")
            .Observe(_time.GetElapsedTime(began).TotalSeconds);
        PassthroughClaim claim = HostMapping.Claim(request);
        switch (holding.State)
        {
            case HoldingState.Prepared:
                lock (_lock)
                    _verified.Add(request.ClaimUid);
                if (before?.State == HoldingState.Prepared)
                    return WorkEnd.Done; // looked at again after a restart of the agent
                _log.LogInformation(
                    "claim {Claim}: {Devices} bound",
                    claim.Metadata.Name,
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
        _refused.WithLabels(refusal.Reason ?? "Unknown").Inc();
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

    private async Task<WorkEnd> ReleaseAsync(Holding holding, CancellationToken ct)
    {
        long began = _time.GetTimestamp();
        lock (_lock)
            _verified.Remove(holding.ClaimUid);
        Holding? left = await _host.ReleaseAsync(holding.ClaimUid, ct);
        if (left is not null)
            return left.Reason == HoldingReasons.InUse ? WorkEnd.Waits : WorkEnd.Failed;
        _releasing.Observe(_time.GetElapsedTime(began).TotalSeconds);
        _log.LogInformation("claim {Claim}: devices are back on the host", holding.Request.ClaimName);
        return WorkEnd.Done;
    }

    /// <summary>One event for each trouble of a claim, however long it lasts.</summary>
    private void SayTrouble(Holding holding)
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
        if (_cache.Get(_options.NodeName) is { } node)
        {
            _events.Warning(
                node,
                TenantWords.Reason(holding.Reason, holding.State.ToString()),
                $"claim {claim}: {message}",
                holding.State == HoldingState.Releasing ? "Release" : "Bind"
            );
        }
    }

    /// <summary>
    /// What the work on some devices depends on, as far as a scan shows it: when it changes, what failed is worth trying again.
    /// </summary>
    private string Circumstances(AssignmentRequest request, Holding? holding)
    {
        StringBuilder text = new StringBuilder().Append(holding?.State).Append(holding?.Reason).Append(';');
        foreach (DeviceToTake device in request.Devices)
        {
            text.Append(device.Address).Append(' ').Append(device.StableId);
            if (_seen.TryGetValue(device.Address, out HostFunction? f))
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
    private static bool SameDevices(PciAssignment assignment, Holding holding) =>
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
