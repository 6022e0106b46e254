using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Controller;

/// <summary>
/// Hands claims on to pods by dynamic resource allocation: keeps each claim's ResourceClaim and ResourceSlice, hears from them which node
/// kube-scheduler took and which pods have the claim, and says to kube-scheduler what became of a node that it took.
/// </summary>
/// <remarks>
/// The slices are the controller's, not the agents': a stolen agent's token can offer nothing. They go by node selector, never by
/// nodeName, so that a kubelet, which deletes a driver's slices of its node when the plugin is away, leaves them alone: the devices are on
/// that node and on no other, whether its agent is up or not.
/// </remarks>
[EntityRbac("resource.k8s.io", "resourceclaims", "get,list,watch,create,patch,delete")]
[EntityRbac("resource.k8s.io", "resourceclaims/status", "patch")]
[EntityRbac("resource.k8s.io", "resourceclaims/driver", "arbitrary-node:patch")]
[EntityRbac("resource.k8s.io", "resourceslices", "get,list,watch,create,update,delete")]
internal sealed class DraDelivery(IEntityClient client, ControllerCaches caches, TimeProvider time, ILogger log)
{
    private const string FieldManager = "pcioperator-controller";
    private static readonly TimeSpan BindingRetry = TimeSpan.FromMinutes(10);

    private static readonly DeliveryState WithoutBinding = new(
        false,
        "NoBindingConditions",
        "bindingMode WaitForFirstConsumer needs binding conditions, and this API server drops them: Kubernetes 1.36, or the gates "
            + "DRADeviceBindingConditions and DRAResourceClaimDeviceStatus; bindingMode Immediate does without"
    );

    private static readonly DeliveryState ResourceClaimGone = new(
        false,
        "ResourceClaimGone",
        "the ResourceClaim that it was made for is not there"
    );

    // Until when the server is known to drop binding conditions, in ticks of UTC.
    private long _withoutBindingUntil;

    /// <summary>Whether the cluster serves resource.k8s.io/v1.</summary>
    public bool IsServed => caches.ResourceClaims is not null;

    /// <summary>The claim's own ResourceClaim, as the cache has it; null: there is none.</summary>
    public Resourcev1ResourceClaim? Find(PassthroughClaim claim) =>
        caches.ResourceClaims?.Get(ResourceObjects.NameFor(claim), claim.Metadata.NamespaceProperty) is { } resource
        && ResourceObjects.IsOf(resource, claim)
            ? resource
            : null;

    /// <summary>Offers the devices of a claim that are bound on a node, and says whether pods can get them.</summary>
    public async Task<DeliveryState> HandOutAsync(PassthroughClaim claim, PciNode node, PciAssignment assignment, CancellationToken ct)
    {
        if (!IsServed)
        {
            return new(
                false,
                "DraNotServed",
                "the cluster does not serve resource.k8s.io/v1 (Kubernetes 1.34): make the claim with delivery DevicePlugin"
            );
        }

        if (ResourceObjects.Offered(assignment.Devices) is not { } names)
        {
            return new(
                false,
                "TooManyDevices",
                $"a ResourceClaim carries {ResourceObjects.MostRequests} devices at most: ask for the rest in another claim, with coLocateWith"
            );
        }

        var allocated = Allocated.Of(Find(claim), claim.Metadata.Uid!);
        bool waits = allocated is { Waits: true };
        bool isHere = waits && IsOn(allocated!, node.Metadata.Name!);
        // Kube-scheduler waits for this, and for nothing else.
        if (isHere)
            await SayAsync(allocated!, DraNames.Bound, "Bound", $"bound and verified on node {node.Metadata.Name}", ct);
        await OfferAsync(ResourceObjects.Pinned(claim, node, assignment.Devices, names), ct);
        // An offer that still names another node would be taken again.
        if (waits && !isHere)
            await RefuseAsync(allocated!, "OnOtherNode", $"the claim has its devices on node {node.Metadata.Name}", ct);
        return await EnsureClaimAsync(claim, names.Values.ToHashSet(), ct) is { } missing
            ? missing
            : Registered(node) with
            {
                InUse = UseOf(claim),
            };
    }

    /// <summary>What <see cref="HandOutAsync"/> comes to for a claim whose ResourceClaim is there, as it is when kube-scheduler has taken a node.</summary>
    public DeliveryState Expect(PassthroughClaim claim, PciNode node) => Registered(node) with { InUse = UseOf(claim) };

    /// <summary>Who has a claim by its ResourceClaim, and who waits for it.</summary>
    public DeliveryUse UseOf(PassthroughClaim claim) => new(Pods(Find(claim)), Waiting(claim));

    /// <summary>Offers a claim on several nodes, of which kube-scheduler takes one; on none: takes back its offer.</summary>
    /// <returns>Null: it is offered; otherwise what stands in the way.</returns>
    public async Task<DeliveryState?> OfferAsync(PassthroughClaim claim, Candidates candidates, CancellationToken ct)
    {
        if (candidates.Hosts.Count == 0)
        {
            await WithdrawAsync(claim, ct);
            return new(false, "NoNodeFits", candidates.Refusal);
        }

        // Tried again after a while: gates can be opened.
        if (time.GetUtcNow().UtcTicks < Interlocked.Read(ref _withoutBindingUntil))
            return WithoutBinding;
        string? template = null;
        if (TemplateClaim.OwnerOf(claim) is not null)
        {
            if (Find(claim) is not { } resource)
                return ResourceClaimGone;
            template = TemplateClaim.Of(resource).Template;
        }

        V1ResourceSlice slice = ResourceObjects.Open(
            claim,
            candidates.Names.Order(StringComparer.Ordinal),
            [.. candidates.Hosts.Select(h => h.Hostname)],
            template
        );
        if (await OfferAsync(slice, ct) is { } stored && !ResourceObjects.HasBindingConditions(stored))
        {
            Interlocked.Exchange(ref _withoutBindingUntil, (time.GetUtcNow() + BindingRetry).UtcTicks);
            await WithdrawAsync(claim, ct);
            return WithoutBinding;
        }

        return await EnsureClaimAsync(claim, candidates.Names, ct);
    }

    /// <summary>Says to kube-scheduler that a node which it took can't serve the claim: it takes another.</summary>
    public Task RefuseAsync(Allocated allocated, string reason, string message, CancellationToken ct) =>
        SayAsync(allocated, DraNames.Refused, reason, message, ct);

    /// <summary>Takes back a claim's offer, if there is one.</summary>
    public async Task WithdrawAsync(PassthroughClaim claim, CancellationToken ct)
    {
        string name = ResourceObjects.SliceName(claim.Metadata.Uid!);
        if (caches.ResourceSlices?.Get(name) is not null)
            await client.DeleteAsync<V1ResourceSlice>(name, ct: ct);
    }

    /// <summary>
    /// Closes a deleted claim to pods: its ResourceClaim is deleted, after which kube-scheduler gives it to nobody any more.
    /// </summary>
    /// <returns>The pods that still have it; null: none, and none can get it.</returns>
    public async Task<string?> CloseAsync(PassthroughClaim claim, CancellationToken ct)
    {
        if (!IsServed)
            return null;
        await WithdrawAsync(claim, ct);
        // The server is asked, not the cache: a pod may have reserved it a moment ago, and its devices would go from under it.
        Resourcev1ResourceClaim? resource = await client.GetAsync<Resourcev1ResourceClaim>(
            ResourceObjects.NameFor(claim),
            claim.Metadata.NamespaceProperty,
            ct
        );
        if (resource is null || !ResourceObjects.IsOf(resource, claim))
            return null;
        // A template's is its pod's, and goes with that.
        if (resource.Metadata.DeletionTimestamp is null && TemplateClaim.OwnerOf(claim) is null)
        {
            await client.DeleteAsync<Resourcev1ResourceClaim>(
                resource.Metadata.Name!,
                resource.Metadata.NamespaceProperty,
                new DeleteOptions { Uid = resource.Metadata.Uid },
                ct
            );
            // Between the look and the deletion somebody may have reserved it; from now on nobody can.
            resource = await client.GetAsync<Resourcev1ResourceClaim>(resource.Metadata.Name!, resource.Metadata.NamespaceProperty, ct);
        }

        IReadOnlyList<string> pods = Pods(resource is not null && ResourceObjects.IsOf(resource, claim) ? resource : null);
        return pods.Count == 0 ? null : new DeliveryUse(pods).Named;
    }

    /// <summary>Whether kube-scheduler took a node, or none in particular.</summary>
    private bool IsOn(Allocated allocated, string node)
    {
        string? taken =
            allocated.Node
            ?? (allocated.Hostname is { } host && ResourceObjects.HostnameOf(caches.Nodes.Get(node)) == host ? node : allocated.Hostname);
        return taken is null || taken == node;
    }

    private async Task SayAsync(Allocated allocated, string condition, string reason, string message, CancellationToken ct)
    {
        try
        {
            Resourcev1ResourceClaim written = await client.PatchAsync<Resourcev1ResourceClaim>(
                allocated.Resource.Metadata.Name!,
                allocated.Resource.Metadata.NamespaceProperty,
                allocated.Say(condition, reason, message, time.GetUtcNow(), FieldManager),
                "status",
                ct
            );
            caches.ResourceClaims!.Observe(written);
        }
        catch (ApiException gone) when (gone.IsNotFound)
        {
            log.LogDebug("ResourceClaim {Name} is gone: nobody waits for an answer", allocated.Resource.Metadata.Name);
        }
    }

    /// <summary>Whether the node's kubelet can hand the devices to containers.</summary>
    private static DeliveryState Registered(PciNode node) =>
        node.Status?.Conditions.Find(Conditions.KubeletRegistered) switch
        {
            { Status: "True" } => new(true, "Ready", ""),
            null => new(
                false,
                "KubeletNotRegistered",
                $"the agent of node {node.Metadata.Name} has not said yet whether the kubelet knows it"
            ),
            var no => new(
                false,
                "KubeletNotRegistered",
                $"the kubelet of node {node.Metadata.Name} does not know the agent's DRA plugin ({no.Reason})"
            ),
        };

    private async Task<V1ResourceSlice?> OfferAsync(V1ResourceSlice slice, CancellationToken ct)
    {
        if (caches.ResourceSlices!.Get(slice.Metadata.Name!) is not { } known)
            return await StoreAsync(slice, create: true, ct);
        if (ResourceObjects.OffersTheSame(known, slice))
            return known;
        // Whoever reads a pool goes by the highest generation: each change is a new one.
        slice.Metadata.ResourceVersion = known.Metadata.ResourceVersion;
        slice.Spec.Pool.Generation = (known.Spec.Pool?.Generation ?? 0) + 1;
        return await StoreAsync(slice, create: false, ct);
    }

    private async Task<V1ResourceSlice> StoreAsync(V1ResourceSlice slice, bool create, CancellationToken ct)
    {
        try
        {
            V1ResourceSlice written = create ? await client.CreateAsync(slice, ct) : await client.UpdateAsync(slice, ct);
            caches.ResourceSlices!.Observe(written);
            return written;
        }
        catch (ApiException exists) when (create && exists.IsAlreadyExists)
        {
            // The cache is behind: what is there is compared when it has come.
            return await client.GetAsync<V1ResourceSlice>(slice.Metadata.Name!, ct: ct) ?? slice;
        }
    }

    /// <summary>Makes the claim's ResourceClaim; null: it is there.</summary>
    private async Task<DeliveryState?> EnsureClaimAsync(PassthroughClaim claim, IReadOnlyCollection<string> devices, CancellationToken ct)
    {
        if (TemplateClaim.OwnerOf(claim) is not null)
            return EnsureTemplates(claim, devices);
        string name = claim.Metadata.Name!;
        if ((Find(claim) ?? await CreateClaimAsync(claim, devices, ct)) is not { } resource)
            return null;
        if (!ResourceObjects.IsOf(resource, claim))
        {
            return new(
                false,
                "ResourceClaimExists",
                $"there is a ResourceClaim {name} in this namespace that is not this claim's: delete it, or make the claim under another name"
            );
        }

        if (resource.Metadata.DeletionTimestamp is not null)
        {
            return new(
                false,
                "ResourceClaimDeleted",
                $"ResourceClaim {name} was deleted: it is made again when no pod has it any more",
                new DeliveryUse(Pods(resource))
            );
        }

        if (ResourceObjects.AsksFor(resource, claim, devices))
        {
            if (resource.Metadata.Labels?.ContainsKey(ResourceObjects.Label) != true)
                await LabelAsync(resource, ct);
            return null;
        }

        if (Pods(resource).Count > 0)
        {
            return new(
                false,
                "ResourceClaimOutdated",
                $"ResourceClaim {name} asks for other devices than the claim has now: it is made again when no pod has it any more",
                new DeliveryUse(Pods(resource))
            );
        }

        // Its spec can't be changed. Who has reserved it meanwhile keeps it until its end.
        await client.DeleteAsync<Resourcev1ResourceClaim>(
            name,
            claim.Metadata.NamespaceProperty,
            new DeleteOptions { Uid = resource.Metadata.Uid },
            ct
        );
        return new(false, "ResourceClaimOutdated", $"ResourceClaim {name} asks for other devices than the claim has now: it is made again");
    }

    /// <summary>Gives a ResourceClaim back the label without which it is not watched.</summary>
    private async Task LabelAsync(Resourcev1ResourceClaim resource, CancellationToken ct)
    {
        Resourcev1ResourceClaim written = await client.PatchAsync<Resourcev1ResourceClaim>(
            resource.Metadata.Name!,
            resource.Metadata.NamespaceProperty,
            EntityPatch.Merge($$"""{"metadata":{"uid":"{{resource.Metadata.Uid}}","labels":{"{{ResourceObjects.Label}}":"true"} } }"""),
            ct: ct
        );
        caches.ResourceClaims!.Observe(written);
    }

    /// <summary>Whether the ResourceClaim that a template's claim stands behind asks for the devices that it has; null: it does.</summary>
    private DeliveryState? EnsureTemplates(PassthroughClaim claim, IReadOnlyCollection<string> devices)
    {
        if (Find(claim) is not { } resource)
            return ResourceClaimGone;
        var asked = TemplateClaim.Asked(resource).ToHashSet();
        return asked.SetEquals(devices)
            ? null
            : new(
                false,
                "RequestsDiffer",
                $"the template has the requests {string.Join(", ", asked.Order(StringComparer.Ordinal))}, and what it asks for is {string.Join(", ", devices.Order(StringComparer.Ordinal))}: "
                    + "one request for each device, companions included"
            );
    }

    /// <summary>Makes a claim's ResourceClaim; when there is one of its name already, that one.</summary>
    private async Task<Resourcev1ResourceClaim?> CreateClaimAsync(
        PassthroughClaim claim,
        IReadOnlyCollection<string> devices,
        CancellationToken ct
    )
    {
        try
        {
            Resourcev1ResourceClaim written = await client.CreateAsync(ResourceObjects.Claim(claim, devices), ct);
            caches.ResourceClaims!.Observe(written);
            return null;
        }
        catch (ApiException exists) when (exists.IsAlreadyExists)
        {
            return await client.GetAsync<Resourcev1ResourceClaim>(claim.Metadata.Name!, claim.Metadata.NamespaceProperty, ct);
        }
    }

    private static List<string> Pods(Resourcev1ResourceClaim? resource) =>
        [
            .. (resource?.Status?.ReservedFor ?? [])
                .Select(r => r.Resource == "pods" ? r.Name : $"{r.Resource}/{r.Name}")
                .Order(StringComparer.Ordinal),
        ];

    /// <summary>The scheduler's words about a pod that wants the claim and fits nowhere, and what can be done.</summary>
    private string? Waiting(PassthroughClaim claim)
    {
        foreach (
            V1Pod pod in caches
                .WaitingPods!.ByIndex(
                    ControllerCaches.ByResourceClaim,
                    $"{claim.Metadata.NamespaceProperty}/{ResourceObjects.NameFor(claim)}"
                )
                .OrderBy(p => p.Metadata.Name, StringComparer.Ordinal)
        )
        {
            if (
                pod.Metadata.DeletionTimestamp is null
                && pod.Status?.Conditions?.FirstOrDefault(c => c is { Type: "PodScheduled", Status: "False", Reason: "Unschedulable" })
                    is { } words
            )
            {
                return $"pod {pod.Metadata.Name} can't be scheduled: {Fitted.Text(words.Message, 512)}";
            }
        }

        return null;
    }
}
