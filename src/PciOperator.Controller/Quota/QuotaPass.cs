using PciOperator.Api;

namespace PciOperator.Controller;

/// <summary>What the quotas say to a placement.</summary>
/// <param name="Claims">The claims that are to be placed.</param>
/// <param name="Refusal">Why they may not be, in the tenant's words; null: nothing is against it.</param>
/// <param name="IsBusy">It can't be said yet: look again soon.</param>
/// <param name="Node">The only node where they may be placed, since another controller may be placing one of them there; null: any.</param>
internal sealed record QuotaPass(IReadOnlyList<PassthroughClaim> Claims, string? Refusal = null, bool IsBusy = false, string? Node = null)
{
    /// <summary>When devices were reserved, as a timestamp; null: there was nothing to reserve.</summary>
    public long? ReservedAt { get; init; }

    /// <summary>Whether the claims may be placed.</summary>
    public bool IsGranted => Refusal is null && !IsBusy;
}
