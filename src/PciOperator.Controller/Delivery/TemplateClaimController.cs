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

        PassthroughClaim? behind = AllocatedFrom(entity);
        if (behind is not null && TemplateClaim.OwnerOf(behind) is { } before && before.Uid != entity.Metadata.Uid)
        {
            // In exchange for its own, which goes first: whose it was never lacks one, and none is made anew.
            if (caches.ResourceClaims!.Get(before.Name, entity.Metadata.NamespaceProperty) is { } other && other.Metadata.Uid == before.Uid)
            {
                foreach (PassthroughClaim own in Behind(entity))
                    await OwnAsync(own, other, ct);
            }

            await OwnAsync(behind, entity, ct);
        }

        behind ??= Behind(entity).FirstOrDefault();
        foreach (PassthroughClaim surplus in Behind(entity).Where(c => c.Metadata.Uid != behind?.Metadata.Uid))
            await PassOnAsync(surplus, asked, ct);
        return behind is null ? await MakeAsync(asked, ct) : ReconciliationResult.Done;
    }

    /// <inheritdoc/>
    public async Task DeletedAsync(Resourcev1ResourceClaim entity, CancellationToken ct)
    {
        // The garbage collector does it too, later.
        foreach (PassthroughClaim claim in Behind(entity))
            await DeleteAsync(claim, ct);
    }

    /// <summary>The claims that stand behind a ResourceClaim: one, but for a moment.</summary>
    private List<PassthroughClaim> Behind(Resourcev1ResourceClaim resource) =>
        [
            .. caches
                .Claims.ByIndex(ControllerCaches.ByTemplateClaim, resource.Metadata.Uid!)
                .Where(c => c.Metadata.DeletionTimestamp is null)
                .OrderBy(c => c.Metadata.Name, StringComparer.Ordinal),
        ];

    /// <summary>Gives a claim that a ResourceClaim does not need to one that does; the offers of a template are alike.</summary>
    private async Task PassOnAsync(PassthroughClaim surplus, TemplateClaim asked, CancellationToken ct)
    {
        var others = caches
            .ResourceClaims!.List()
            .Where(r =>
                r.Metadata.NamespaceProperty == surplus.Metadata.NamespaceProperty
                && r.Metadata.Uid != asked.Resource.Metadata.Uid
                && r.Metadata.DeletionTimestamp is null
                && TemplateClaim.Is(r)
            )
            .ToList();
        Resourcev1ResourceClaim? needs =
            others.FirstOrDefault(r => Allocated.Of(r, surplus.Metadata.Uid!) is not null)
            ?? others.FirstOrDefault(r => Behind(r).Count == 0 && AllocatedFrom(r) is null && asked.IsAlike(r));
        if (needs is not null)
            await OwnAsync(surplus, needs, ct);
        else if (surplus.Status?.NodeName is not { Length: > 0 })
            await DeleteAsync(surplus, ct);
    }

    private Task DeleteAsync(PassthroughClaim claim, CancellationToken ct) =>
        client.DeleteAsync<PassthroughClaim>(
            claim.Metadata.Name!,
            claim.Metadata.NamespaceProperty,
            new DeleteOptions { Uid = claim.Metadata.Uid, ResourceVersion = claim.Metadata.ResourceVersion },
            ct
        );

    /// <summary>The PassthroughClaim out of whose pool a ResourceClaim was allocated, if it may be behind it.</summary>
    private PassthroughClaim? AllocatedFrom(Resourcev1ResourceClaim resource)
    {
        string? pool = (resource.Status?.Allocation?.Devices?.Results ?? []).FirstOrDefault(r => r.Driver == DraNames.Driver)?.Pool;
        return DraNames.ClaimOfPool(pool) is { } uid
            ? caches
                .Claims.ByIndex(ControllerCaches.ByUid, uid)
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

    private async Task OwnAsync(PassthroughClaim claim, Resourcev1ResourceClaim owner, CancellationToken ct)
    {
        PassthroughClaim written = await client.PatchAsync<PassthroughClaim>(
            claim.Metadata.Name!,
            claim.Metadata.NamespaceProperty,
            MetadataPatch.Owners(claim.Metadata, [TemplateClaim.OwnerOf(owner)]),
            ct: ct
        );
        caches.Claims.Observe(written);
    }
}
