using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using PciOperator.Kubernetes;

namespace PciOperator.Sandbox.Scheduling;

/// <summary>
/// What kube-controller-manager does for ResourceClaims: it makes those of templates, takes away reservations of pods that have ended,
/// deallocates what nobody uses, and deletes a template's claim with its pod; and its garbage collector, as far as claims are concerned.
/// </summary>
public sealed class SimulatedClaimController(IEntityClient client, TimeProvider time, ILogger log)
{
    private const string Protection = "resource.kubernetes.io/delete-protection";
    private const string PodClaimName = "resource.kubernetes.io/pod-claim-name";
    private const string OwnClaims = "/apis/pcioperator.io/v1alpha1/passthroughclaims";
    private readonly RawObjects _objects = new(client);

    /// <summary>How often it looks.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Looks until it is told to stop. What the server refuses or fails at is tried again at the next look.</summary>
    public async Task RunAsync(CancellationToken ct)
    {
        while (!ct.IsCancellationRequested)
        {
            try
            {
                await StepAsync(ct);
                await Task.Delay(Interval, time, ct);
            }
            catch (Exception failed) when (failed is ApiException or HttpRequestException)
            {
                log.LogWarning("the claim controller looks again: {Error}", failed.Message);
            }
            catch (OperationCanceledException) when (ct.IsCancellationRequested)
            {
                return;
            }
        }
    }

    /// <summary>One look at everything.</summary>
    public async Task StepAsync(CancellationToken ct = default)
    {
        // Claims first: who uses a claim that is seen is there when pods are listed, or is gone.
        IReadOnlyList<JsonObject> claims = await _objects.ListAsync(Paths.Claims, ct);
        IReadOnlyList<JsonObject> pods = await _objects.ListAsync(Paths.Pods, ct);
        foreach (JsonObject claim in claims)
            await TidyAsync(claim, pods, ct);
        foreach (JsonObject pod in pods.Where(p => !p.HasEnded() && p.At("metadata", "deletionTimestamp") is null))
            await MakeClaimsAsync(pod, claims, ct);
        await CollectAsync(ct);
    }

    private async Task MakeClaimsAsync(JsonObject pod, IReadOnlyList<JsonObject> claims, CancellationToken ct)
    {
        var statuses = pod.Items("status", "resourceClaimStatuses").Select(s => s.DeepClone()).ToList();
        int before = statuses.Count;
        foreach (JsonObject use in pod.Items("spec", "resourceClaims").Where(u => u.Text("resourceClaimTemplateName").Length > 0))
        {
            string name = use.Text("name");
            if (statuses.Exists(s => s.Text("name") == name))
                continue;
            // Made by an earlier look that did not come to writing so into the pod.
            JsonObject? claim =
                claims.FirstOrDefault(c =>
                    c.At("metadata", "annotations", PodClaimName)?.ToString() == name
                    && c.Items("metadata", "ownerReferences").Any(o => o.Text("uid") == pod.Uid())
                ) ?? await MakeClaimAsync(pod, use, ct);
            if (claim is not null)
                statuses.Add(new JsonObject { ["name"] = name, ["resourceClaimName"] = claim.Text("metadata", "name") });
        }

        if (statuses.Count > before)
        {
            await _objects.PatchAsync(
                Paths.Pod(pod) + "/status",
                pod,
                new JsonObject { ["status"] = new JsonObject { ["resourceClaimStatuses"] = new JsonArray([.. statuses]) } },
                ct
            );
        }
    }

    private async Task<JsonObject?> MakeClaimAsync(JsonObject pod, JsonObject use, CancellationToken ct)
    {
        string ns = pod.Text("metadata", "namespace");
        string path = $"/apis/resource.k8s.io/v1/namespaces/{ns}/resourceclaimtemplates/{use.Text("resourceClaimTemplateName")}";
        if (await _objects.GetAsync(path, ct) is not { } template)
            return null;
        JsonObject annotations = template.At("spec", "metadata", "annotations")?.DeepClone().AsObject() ?? [];
        annotations[PodClaimName] = use.Text("name");
        var claim = new JsonObject
        {
            ["apiVersion"] = "resource.k8s.io/v1",
            ["kind"] = "ResourceClaim",
            ["metadata"] = new JsonObject
            {
                ["generateName"] = $"{pod.Text("metadata", "name")}-{use.Text("name")}-",
                ["namespace"] = ns,
                ["labels"] = template.At("spec", "metadata", "labels")?.DeepClone(),
                ["annotations"] = annotations,
                ["ownerReferences"] = new JsonArray(
                    new JsonObject
                    {
                        ["apiVersion"] = "v1",
                        ["kind"] = "Pod",
                        ["name"] = pod.Text("metadata", "name"),
                        ["uid"] = pod.Uid(),
                        ["controller"] = true,
                        ["blockOwnerDeletion"] = true,
                    }
                ),
            },
            ["spec"] = template.At("spec", "spec")?.DeepClone(),
        };
        try
        {
            return await _objects.CreateAsync(Paths.ClaimsOf(ns), claim, ct);
        }
        catch (ApiException refused) when (refused.StatusCode == System.Net.HttpStatusCode.Forbidden)
        {
            log.LogWarning("no ResourceClaim for pod {Pod}: {Error}", pod.Key(), refused.Message);
            return null;
        }
    }

    private async Task TidyAsync(JsonObject claim, IReadOnlyList<JsonObject> pods, CancellationToken ct)
    {
        JsonObject? owner = claim
            .Items("metadata", "ownerReferences")
            .FirstOrDefault(o => o.IsTrue("controller") && o.Text("kind") == "Pod");
        bool isGoing = claim.At("metadata", "deletionTimestamp") is not null;
        if (owner is not null && !isGoing && !IsAlive(owner.Text("uid")))
        {
            await _objects.DeleteAsync(Paths.Claim(claim), claim, ct);
            return;
        }

        List<JsonObject> reserved = [.. claim.Items("status", "reservedFor")];
        List<JsonObject> valid = [.. reserved.Where(r => r.Text("resource") != "pods" || IsAlive(r.Text("uid")))];
        bool isUnused = valid.Count == 0 && (reserved.Count > 0 || isGoing);
        JsonObject now = claim;
        if (valid.Count < reserved.Count || (isUnused && claim.At("status", "allocation") is not null))
        {
            var status = new JsonObject { ["reservedFor"] = isUnused ? null : new JsonArray([.. valid.Select(v => v.DeepClone())]) };
            if (isUnused)
                (status["allocation"], status["devices"]) = (null, null);
            now = await _objects.PatchAsync(Paths.Claim(claim) + "/status", claim, new JsonObject { ["status"] = status }, ct);
        }

        if (isUnused && now.Texts("metadata", "finalizers").Contains(Protection))
        {
            JsonArray finalizers = [.. now.Texts("metadata", "finalizers").Where(f => f != Protection).Select(f => (JsonNode)f)];
            await _objects.PatchAsync(
                Paths.Claim(claim),
                now,
                new JsonObject { ["metadata"] = new JsonObject { ["finalizers"] = finalizers } },
                ct
            );
        }

        bool IsAlive(string uid) => pods.FirstOrDefault(p => p.Uid() == uid) is { } pod && !pod.HasEnded();
    }

    /// <summary>Deletes ResourceClaims and PassthroughClaims all of whose owners are gone.</summary>
    private async Task CollectAsync(CancellationToken ct)
    {
        // Dependents first: an owner that is not there afterwards was not made since.
        List<(string Path, JsonObject Object)> dependents =
        [
            .. (await _objects.ListAsync(Paths.Claims, ct)).Select(c => (Paths.Claim(c), c)),
            .. (await _objects.ListAsync(OwnClaims, ct)).Select(c => (OwnPath(c), c)),
        ];
        dependents.RemoveAll(d =>
            d.Object.At("metadata", "deletionTimestamp") is not null || !d.Object.Items("metadata", "ownerReferences").Any()
        );
        if (dependents.Count == 0)
            return;
        var there = new HashSet<string>();
        foreach (string owners in new[] { Paths.Pods, Paths.Claims, OwnClaims })
            there.UnionWith((await _objects.ListAsync(owners, ct)).Select(o => o.Uid()));
        foreach ((string path, JsonObject dependent) in dependents)
        {
            bool isOrphan = dependent
                .Items("metadata", "ownerReferences")
                .All(o => o.Text("kind") is "Pod" or "ResourceClaim" or "PassthroughClaim" && !there.Contains(o.Text("uid")));
            if (isOrphan)
                await _objects.DeleteAsync(path, dependent, ct);
        }
    }

    private static string OwnPath(JsonObject claim) =>
        $"/apis/pcioperator.io/v1alpha1/namespaces/{claim.Text("metadata", "namespace")}/passthroughclaims/{claim.Text("metadata", "name")}";
}
