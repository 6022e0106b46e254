using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using PciOperator.Kubernetes;

namespace PciOperator.Sandbox.Scheduling;

/// <summary>How the simulated kube-scheduler works.</summary>
public sealed record SimulatedSchedulerOptions
{
    /// <summary>How often it looks.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>How long it waits for binding conditions: kube-scheduler's default.</summary>
    public TimeSpan BindingTimeout { get; init; } = TimeSpan.FromSeconds(600);

    /// <summary>Each node's processors; those that are not here have what their Node says is allocatable.</summary>
    public IReadOnlyDictionary<string, decimal> Cpus { get; init; } = new Dictionary<string, decimal>();
}

/// <summary>
/// What kube-scheduler 1.36 does for pods with ResourceClaims, seen from the API server: it takes a node by labels, taints and
/// processors, allocates devices of ResourceSlices, waits for binding conditions (KEP-5007), deallocates when one says that binding
/// failed, binds the pod, and says why a pod has no node.
/// </summary>
/// <remarks>Allocation is first fit, without constraints, and one request at a time; what it does not know it says in the pod.</remarks>
public sealed class SimulatedScheduler(IEntityClient client, TimeProvider time, ILogger log, SimulatedSchedulerOptions? options = null)
{
    private const string Protection = "resource.kubernetes.io/delete-protection";
    private static readonly string[] DeviceId = ["driver", "pool", "device"];
    private readonly SimulatedSchedulerOptions _options = options ?? new SimulatedSchedulerOptions();
    private readonly RawObjects _objects = new(client);
    private readonly SchedulerEvents _events = new(new RawObjects(client), time);

    /// <summary>The pods that wait for binding conditions: on which node, since when.</summary>
    private readonly ConcurrentDictionary<string, (string Node, DateTimeOffset Since)> _waiting = new();

    /// <summary>Looks until it is told to stop. What the server refuses or fails at is tried again at the next look.</summary>
    public async Task RunAsync(CancellationToken ct)
    {
        while (!ct.IsCancellationRequested)
        {
            try
            {
                await StepAsync(ct);
                await Task.Delay(_options.Interval, time, ct);
            }
            catch (Exception failed) when (failed is ApiException or HttpRequestException)
            {
                log.LogWarning("the scheduler looks again: {Error}", failed.Message);
            }
            catch (OperationCanceledException) when (ct.IsCancellationRequested)
            {
                return;
            }
        }
    }

    /// <summary>
    /// One look at every pod that has no node. As in kube-scheduler one pod after another is given its node and devices, each by what those before
    /// it were given, and what that takes to be written is written for all of them side by side.
    /// </summary>
    public async Task StepAsync(CancellationToken ct = default)
    {
        // Claims after the pods that name them, slices after the claims that are allocated from them.
        IReadOnlyList<JsonObject> pods = await _objects.ListAsync(Paths.Pods, ct);
        List<JsonObject> pending = [.. pods.Where(IsPending)];
        foreach (string gone in _waiting.Keys.Except(pending.Select(p => p.Uid())).ToList())
            _waiting.TryRemove(gone, out _);
        while (pending.Count > 0)
        {
            List<JsonObject> outrun = await ScheduleAsync(pending, pods, ct);
            // Pods that share a ResourceClaim write it one after another. Whom somebody else outruns waits for the next look.
            if (outrun.Count == pending.Count)
                return;
            pending = outrun;
            pods = pending.Count == 0 ? pods : await _objects.ListAsync(Paths.Pods, ct);
        }
    }

    /// <summary>Gives each of some pods a node; those for which somebody wrote in between.</summary>
    private async Task<List<JsonObject>> ScheduleAsync(List<JsonObject> pending, IReadOnlyList<JsonObject> pods, CancellationToken ct)
    {
        var cluster = new Snapshot(
            await _objects.ListAsync(Paths.Nodes, ct),
            pods,
            await _objects.ListAsync(Paths.Claims, ct),
            await _objects.ListAsync(Paths.Slices, ct),
            await _objects.ListAsync(Paths.Classes, ct)
        );
        foreach (JsonObject pod in pods)
        {
            if (_waiting.TryGetValue(pod.Uid(), out (string Node, DateTimeOffset) waits))
                cluster.Assume(pod, waits.Node);
        }

        var writes = new List<Task<bool>>();
        foreach (JsonObject pod in pending)
            writes.Add(ScheduleAsync(pod, cluster, ct));
        bool[] done = await Task.WhenAll(writes);
        return [.. pending.Where((_, i) => !done[i])];
    }

    private static bool IsPending(JsonObject pod) =>
        pod.Text("spec", "nodeName").Length == 0
        && !pod.HasEnded()
        && pod.At("metadata", "deletionTimestamp") is null
        && pod.Text("spec", "schedulerName") is "" or "default-scheduler"
        && !pod.Items("spec", "schedulingGates").Any();

    /// <summary>False: somebody wrote in between.</summary>
    private async Task<bool> ScheduleAsync(JsonObject pod, Snapshot cluster, CancellationToken ct)
    {
        try
        {
            IReadOnlyList<JsonObject> claims = cluster.ClaimsOf(pod);
            if (_waiting.TryGetValue(pod.Uid(), out (string Node, DateTimeOffset Since) waits))
                await WaitAsync(pod, claims, waits.Node, waits.Since, ct);
            else
                await TakeNodeAsync(pod, claims, cluster, ct);
        }
        catch (UnschedulableException why)
        {
            await UnschedulableAsync(pod, why.Message, ct);
        }
        catch (NotSupportedException unknown)
        {
            log.LogError("pod {Pod}: {Error}", pod.Key(), unknown.Message);
            await UnschedulableAsync(pod, unknown.Message, ct);
        }
        catch (ApiException refused) when (refused.IsConflict)
        {
            return false;
        }
        catch (ApiException refused)
            when (refused.StatusCode is System.Net.HttpStatusCode.Forbidden or System.Net.HttpStatusCode.UnprocessableEntity)
        {
            await UnschedulableAsync(pod, refused.Message, ct);
        }

        return true;
    }

    /// <summary>Filter, Reserve and the first half of PreBind: a node, devices on it, and both written.</summary>
    private async Task TakeNodeAsync(JsonObject pod, IReadOnlyList<JsonObject> claims, Snapshot cluster, CancellationToken ct)
    {
        (JsonObject? node, IReadOnlyDictionary<string, JsonObject> allocations) = Choose(pod, claims, cluster, out string why);
        if (node is null)
        {
            await GiveUpUnusedAsync(pod, claims, cluster, ct);
            throw new UnschedulableException(why);
        }

        string name = node.Text("metadata", "name");
        cluster.Assume(pod, name);
        foreach (JsonObject claim in claims)
            cluster.Assume(claim, allocations.GetValueOrDefault(claim.Uid()));
        foreach (JsonObject claim in claims)
            await ReserveAsync(pod, claim, allocations.GetValueOrDefault(claim.Uid()), ct);
        if (claims.Any(c => Expected(allocations.GetValueOrDefault(c.Uid()) ?? c.At("status", "allocation")).Any()))
        {
            _waiting[pod.Uid()] = (name, time.GetUtcNow());
            await SetStatusAsync(pod, new JsonObject { ["nominatedNodeName"] = name }, ct);
            await _events.SayAsync(
                pod,
                "Normal",
                "BindingConditionsPending",
                $"waiting for binding conditions for device on node {name}",
                ct
            );
            return;
        }

        await BindAsync(pod, name, ct);
    }

    private (JsonObject? Node, IReadOnlyDictionary<string, JsonObject> Allocations) Choose(
        JsonObject pod,
        IReadOnlyList<JsonObject> claims,
        Snapshot cluster,
        out string why
    )
    {
        var reasons = new List<string>();
        foreach (
            JsonObject node in cluster
                .Nodes.OrderByDescending(n => Free(n, cluster))
                .ThenBy(n => n.Text("metadata", "name"), StringComparer.Ordinal)
        )
        {
            if (WhyNot(pod, node, claims, cluster) is { } reason)
            {
                reasons.Add(reason);
                continue;
            }

            if (DeviceAllocation.Find(claims.Where(c => c.At("status", "allocation") is null), node, cluster, time) is { } found)
            {
                why = "";
                return (node, found);
            }

            reasons.Add("cannot allocate all claims");
        }

        why =
            $"0/{cluster.Nodes.Count} nodes are available: "
            + string.Join(", ", reasons.GroupBy(r => r).OrderBy(g => g.Key, StringComparer.Ordinal).Select(g => $"{g.Count()} {g.Key}"))
            + ".";
        return (null, new Dictionary<string, JsonObject>());
    }

    private string? WhyNot(JsonObject pod, JsonObject node, IReadOnlyList<JsonObject> claims, Snapshot cluster)
    {
        JsonObject? taint = node.Items("spec", "taints")
            .FirstOrDefault(t => t.Text("effect") is "NoSchedule" or "NoExecute" && !Tolerates(pod, t.Text("key")));
        if (node.IsTrue("spec", "unschedulable") && !Tolerates(pod, "node.kubernetes.io/unschedulable"))
            return "node(s) were unschedulable";
        if (taint is not null)
            return $"node(s) had untolerated taint(s) {{{taint.Text("key")}: {taint.Text("value")}}}";
        if (!MatchesLabels(pod, node))
            return "node(s) didn't match Pod's node affinity/selector";
        if (Asked(pod) > Free(node, cluster))
            return "Insufficient cpu";
        return claims.Any(c => c.At("status", "allocation") is { } allocation && !NodeTerms.Match(allocation.At("nodeSelector"), node))
            ? "resourceclaim not available on the node"
            : null;
    }

    private static bool MatchesLabels(JsonObject pod, JsonObject node) =>
        (pod.At("spec", "nodeSelector") as JsonObject ?? []).All(l =>
            node.At("metadata", "labels", l.Key)?.ToString() == l.Value?.ToString()
        ) && NodeTerms.Match(pod.At("spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"), node);

    private static bool Tolerates(JsonObject pod, string taint) =>
        pod.Items("spec", "tolerations").Any(t => t.Text("key") == taint || (t.Text("key") == "" && t.Text("operator") == "Exists"));

    private decimal Free(JsonObject node, Snapshot cluster)
    {
        string name = node.Text("metadata", "name");
        decimal all = _options.Cpus.TryGetValue(name, out decimal given) ? given : Cpus(node.At("status", "allocatable", "cpu"));
        return all - cluster.PodsOn(name).Sum(Asked);
    }

    private static decimal Asked(JsonObject pod) =>
        pod.Items("spec", "containers").Sum(c => Cpus(c.At("resources", "requests", "cpu") ?? c.At("resources", "limits", "cpu")));

    private static decimal Cpus(JsonNode? quantity)
    {
        string text = quantity?.ToString() ?? "0";
        return text.EndsWith('m')
            ? decimal.Parse(text[..^1], CultureInfo.InvariantCulture) / 1000
            : decimal.Parse(text, CultureInfo.InvariantCulture);
    }

    /// <summary>Writes the allocation, unless the claim has one, and that the pod uses the claim.</summary>
    private async Task ReserveAsync(JsonObject pod, JsonObject claim, JsonObject? allocation, CancellationToken ct)
    {
        List<JsonObject> reserved = [.. claim.Items("status", "reservedFor")];
        if (allocation is null && reserved.Any(r => r.Text("uid") == pod.Uid()))
            return;
        JsonObject now = claim;
        if (!claim.Texts("metadata", "finalizers").Contains(Protection))
        {
            JsonArray finalizers = [.. claim.Texts("metadata", "finalizers").Append(Protection).Select(f => (JsonNode)f)];
            now = await _objects.PatchAsync(
                Paths.Claim(claim),
                claim,
                new JsonObject { ["metadata"] = new JsonObject { ["finalizers"] = finalizers } },
                ct
            );
        }

        reserved.RemoveAll(r => r.Text("uid") == pod.Uid());
        var status = new JsonObject
        {
            ["reservedFor"] = new JsonArray([
                .. reserved.Select(r => r.DeepClone()),
                new JsonObject
                {
                    ["resource"] = "pods",
                    ["name"] = pod.Text("metadata", "name"),
                    ["uid"] = pod.Uid(),
                },
            ]),
        };
        if (allocation is not null)
            status["allocation"] = allocation.DeepClone();
        await _objects.PatchAsync(Paths.Claim(claim) + "/status", now, new JsonObject { ["status"] = status }, ct);
    }

    /// <summary>The second half of PreBind: binding conditions.</summary>
    private async Task WaitAsync(JsonObject pod, IReadOnlyList<JsonObject> claims, string node, DateTimeOffset since, CancellationToken ct)
    {
        foreach (JsonObject claim in claims)
        {
            if (!claim.Items("status", "reservedFor").Any(r => r.Text("uid") == pod.Uid()) || claim.At("status", "allocation") is null)
            {
                // Taken away meanwhile: from the start.
                _waiting.TryRemove(pod.Uid(), out _);
                return;
            }

            if (Failure(claim) is { } failure)
            {
                await GiveUpAsync(pod, claims, ct);
                throw new UnschedulableException(
                    $"running PreBind plugin \"DynamicResources\": device binding failed: claim={claim.Text("metadata", "name")}, reason={failure.Text("reason")}, message=\"{failure.Text("message")}\""
                );
            }
        }

        if (
            claims
                .SelectMany(c => Expected(c.At("status", "allocation")).Select(e => Condition(c, e.Result, e.Type).Text("status")))
                .All(s => s == "True")
        )
        {
            await BindAsync(pod, node, ct);
        }
        else if (time.GetUtcNow() - since >= _options.BindingTimeout)
        {
            await GiveUpAsync(pod, claims, ct);
            throw new UnschedulableException("running PreBind plugin \"DynamicResources\": device binding timeout");
        }
    }

    private static IEnumerable<(JsonObject Result, string Type)> Expected(JsonNode? allocation) =>
        allocation.Items("devices", "results").SelectMany(r => r.Texts("bindingConditions").Select(t => (r, t)));

    private static JsonObject? Failure(JsonObject claim) =>
        claim
            .Items("status", "allocation", "devices", "results")
            .SelectMany(r => r.Texts("bindingFailureConditions").Select(t => Condition(claim, r, t)))
            .FirstOrDefault(c => c.Text("status") == "True");

    private static JsonObject? Condition(JsonObject claim, JsonObject result, string type) =>
        claim
            .Items("status", "devices")
            .Where(d => DeviceId.All(f => d.Text(f) == result.Text(f)))
            .SelectMany(d => d.Items("conditions"))
            .FirstOrDefault(c => c.Text("type") == type);

    /// <summary>Deallocates what the pod waits for, unless another pod has it, too.</summary>
    private async Task GiveUpAsync(JsonObject pod, IReadOnlyList<JsonObject> claims, CancellationToken ct)
    {
        _waiting.TryRemove(pod.Uid(), out _);
        foreach (JsonObject claim in claims)
            await ReleaseAsync(pod, claim, ct);
        await SetStatusAsync(pod, new JsonObject { ["nominatedNodeName"] = null }, ct);
    }

    /// <summary>PostFilter: an allocation that no node can be had with, and that nobody else uses, is given up.</summary>
    private async Task GiveUpUnusedAsync(JsonObject pod, IReadOnlyList<JsonObject> claims, Snapshot cluster, CancellationToken ct)
    {
        foreach (JsonObject claim in claims.Where(c => c.At("status", "allocation") is not null))
        {
            bool isUsed = claim.Items("status", "reservedFor").Any(r => r.Text("uid") != pod.Uid());
            bool isElsewhere = cluster.Nodes.Any(n => !NodeTerms.Match(claim.At("status", "allocation", "nodeSelector"), n));
            if (!isUsed && isElsewhere)
                await ReleaseAsync(pod, claim, ct);
        }
    }

    private async Task ReleaseAsync(JsonObject pod, JsonObject claim, CancellationToken ct)
    {
        List<JsonObject> others = [.. claim.Items("status", "reservedFor").Where(r => r.Text("uid") != pod.Uid())];
        var status = new JsonObject { ["reservedFor"] = new JsonArray([.. others.Select(o => o.DeepClone())]) };
        if (others.Count == 0)
            (status["allocation"], status["devices"], status["reservedFor"]) = (null, null, null);
        await _objects.PatchAsync(Paths.Claim(claim) + "/status", claim, new JsonObject { ["status"] = status }, ct);
        if (others.Count == 0)
            log.LogInformation("deallocation of ResourceClaim {Claim} completed", claim.Key());
    }

    private async Task BindAsync(JsonObject pod, string node, CancellationToken ct)
    {
        try
        {
            var binding = new JsonObject
            {
                ["apiVersion"] = "v1",
                ["kind"] = "Binding",
                ["metadata"] = new JsonObject { ["name"] = pod.Text("metadata", "name"), ["uid"] = pod.Uid() },
                ["target"] = new JsonObject
                {
                    ["apiVersion"] = "v1",
                    ["kind"] = "Node",
                    ["name"] = node,
                },
            };
            await _objects.CreateAsync(Paths.Pod(pod) + "/binding", binding, ct);
        }
        catch (ApiException unserved) when (unserved.IsNotFound || unserved.StatusCode == System.Net.HttpStatusCode.MethodNotAllowed)
        {
            // A server without that subresource (the sandbox's, and the one that tests start) checks no pod's spec.
            await _objects.PatchAsync(Paths.Pod(pod), pod, new JsonObject { ["spec"] = new JsonObject { ["nodeName"] = node } }, ct);
        }

        _waiting.TryRemove(pod.Uid(), out _);
        await _events.SayAsync(pod, "Normal", "Scheduled", $"Successfully assigned {pod.Key()} to {node}", ct);
    }

    private async Task UnschedulableAsync(JsonObject pod, string why, CancellationToken ct)
    {
        JsonObject? before = pod.Items("status", "conditions").FirstOrDefault(c => c.Text("type") == "PodScheduled");
        if (before.Text("message") != why || before.Text("status") != "False")
        {
            var condition = new JsonObject
            {
                ["type"] = "PodScheduled",
                ["status"] = "False",
                ["reason"] = "Unschedulable",
                ["message"] = why,
                ["lastTransitionTime"] = Time(time.GetUtcNow()),
            };
            IEnumerable<JsonNode> others = pod.Items("status", "conditions").Where(c => c != before).Select(c => c.DeepClone());
            await SetStatusAsync(pod, new JsonObject { ["phase"] = "Pending", ["conditions"] = new JsonArray([.. others, condition]) }, ct);
        }

        await _events.SayAsync(pod, "Warning", "FailedScheduling", why, ct);
    }

    /// <summary>Writes into a pod's status, whatever else was written meanwhile; not when the pod is gone.</summary>
    private async Task SetStatusAsync(JsonObject pod, JsonObject status, CancellationToken ct)
    {
        if (await _objects.GetAsync(Paths.Pod(pod), ct) is { } now && now.Uid() == pod.Uid())
            await _objects.PatchAsync(Paths.Pod(pod) + "/status", now, new JsonObject { ["status"] = status }, ct);
    }

    internal static string Time(DateTimeOffset at) => at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
