using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Controller;

/// <summary>
/// Makes a PassthroughClaim for each ResourceClaim that comes of a template, and sees to it that the one whose devices kube-scheduler allocated
/// is the one behind it: the offers of one template are alike, and kube-scheduler takes any of them.
/// </summary>
[EntityRbac(PciOperatorApi.Group, "passthroughclaims", "create,patch,delete")]
internal sealed class TemplateClaimController(IEntityClient client, ControllerCaches caches, EventRecorder events, ILogger log)
    : IEntityController<Resourcev1ResourceClaim>
{
    /// <inheritdoc/>
    public async Task<ReconciliationResult> ReconcileAsync(Resourcev1ResourceClaim entity, CancellationToken ct)
    {
        if (entity.Metadata.DeletionTimestamp is not null || !TemplateClaim.Is(entity))
            return ReconciliationResult.Done;
        TemplateClaim asked;
        try
        {
            asked = TemplateClaim.Of(entity);
        }
        catch (FormatException wrong)
        {
            events.Warning(entity, "BadPassthroughRequest", wrong.Message, "Place");
            return ReconciliationResult.Done;
        }

        PassthroughClaim? behind = Behind(entity.Metadata.Uid!);
        if (AllocatedFrom(entity) is { } allocated && allocated.Metadata.Uid != behind?.Metadata.Uid)
            return await SwapAsync(entity, allocated, behind, ct);
        return behind is null ? await MakeAsync(asked, ct) : ReconciliationResult.Done;
    }

    /// <inheritdoc/>
    public async Task DeletedAsync(Resourcev1ResourceClaim entity, CancellationToken ct)
    {
        // The garbage collector does it too, later.
        if (Behind(entity.Metadata.Uid!) is { Metadata.DeletionTimestamp: null } claim)
        {
            await client.DeleteAsync<PassthroughClaim>(
                claim.Metadata.Name!,
                claim.Metadata.NamespaceProperty,
                new DeleteOptions { Uid = claim.Metadata.Uid, ResourceVersion = claim.Metadata.ResourceVersion },
                ct
            );
        }
    }

    private PassthroughClaim? Behind(string resourceUid) =>
        caches.Claims.ByIndex(ControllerCaches.ByTemplateClaim, resourceUid).FirstOrDefault();

    /// <summary>The PassthroughClaim out of whose pool a ResourceClaim was allocated, if it may be behind it.</summary>
    private PassthroughClaim? AllocatedFrom(Resourcev1ResourceClaim resource)
    {
        const string prefix = "claim-";
        string? pool = (resource.Status?.Allocation?.Devices?.Results ?? []).FirstOrDefault(r => r.Driver == DraNames.Driver)?.Pool;
        return pool?.StartsWith(prefix, StringComparison.Ordinal) == true
            ? caches
                .Claims.ByIndex(ControllerCaches.ByUid, pool[prefix.Length..])
                .FirstOrDefault(c =>
                    c.Metadata.NamespaceProperty == resource.Metadata.NamespaceProperty && TemplateClaim.OwnerOf(c) is not null
                )
            : null;
    }

    private async Task<ReconciliationResult> MakeAsync(TemplateClaim asked, CancellationToken ct)
    {
        Resourcev1ResourceClaim resource = asked.Resource;
        // A PassthroughClaim of that name may be somebody's.
        foreach (string name in new[] { resource.Metadata.Name!, $"{resource.Metadata.Name}-{resource.Metadata.Uid![..8]}" })
        {
            try
            {
                PassthroughClaim made = await client.CreateAsync(asked.ToClaim(name), ct);
                caches.Claims.Observe(made);
                log.LogInformation(
                    "ResourceClaim {Name}: PassthroughClaim {Claim} is made for it",
                    EntityKey.Of(resource),
                    made.Metadata.Name
                );
                return ReconciliationResult.Done;
            }
            catch (ApiException exists) when (exists.IsAlreadyExists)
            {
                if (
                    await client.GetAsync<PassthroughClaim>(name, resource.Metadata.NamespaceProperty, ct) is { } there
                    && TemplateClaim.OwnerOf(there)?.Uid == resource.Metadata.Uid
                )
                {
                    return ReconciliationResult.Done; // the cache is about to hear of it
                }
            }
            catch (ApiException refused) when (refused.IsInvalid || refused.IsForbidden)
            {
                // A quota, or a request that no PassthroughClaim could make.
                events.Warning(resource, "NoPassthroughClaim", refused.Message, "Place");
                return ReconciliationResult.Retry;
            }
        }

        return ReconciliationResult.Retry;
    }

    /// <summary>Puts the PassthroughClaim whose devices were allocated behind a ResourceClaim, and its own behind whoever had that one.</summary>
    private async Task<ReconciliationResult> SwapAsync(
        Resourcev1ResourceClaim resource,
        PassthroughClaim allocated,
        PassthroughClaim? own,
        CancellationToken ct
    )
    {
        V1OwnerReference before = TemplateClaim.OwnerOf(allocated)!;
        // First the one that is needed: killed in between, the other is made anew for whoever has none.
        await OwnAsync(allocated, TemplateClaim.OwnerOf(resource), ct);
        if (own is not null)
            await OwnAsync(own, before, ct);
        return ReconciliationResult.Done;
    }

    private async Task OwnAsync(PassthroughClaim claim, V1OwnerReference owner, CancellationToken ct)
    {
        PassthroughClaim written = await client.PatchAsync<PassthroughClaim>(
            claim.Metadata.Name!,
            claim.Metadata.NamespaceProperty,
            MetadataPatch.Owners(claim.Metadata, [owner]),
            ct: ct
        );
        caches.Claims.Observe(written);
    }
}
