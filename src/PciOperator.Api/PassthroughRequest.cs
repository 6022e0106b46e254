using PciOperator.Core;

namespace PciOperator.Api;

/// <summary>
/// What a ResourceClaimTemplate asks for, in its opaque configuration for driver pcioperator.io: as a PassthroughClaim's spec, which is made of it for
/// each ResourceClaim that comes of the template.
/// </summary>
public sealed record PassthroughRequest
{
    /// <summary>The kind that the configuration says.</summary>
    public const string KindName = "PassthroughRequest";

    /// <summary>`pcioperator.io/v1alpha1`.</summary>
    public string? ApiVersion { get; set; }

    /// <summary>`PassthroughRequest`.</summary>
    public string? Kind { get; set; }

    /// <summary>The requests, as a PassthroughClaim's.</summary>
    public IReadOnlyList<ClaimRequest> Requests { get; set; } = [];

    /// <summary>The NUMA policy, as a PassthroughClaim's.</summary>
    public NumaPolicy? NumaPolicy { get; set; }

    /// <summary>Whether the guest has a NUMA topology, as a PassthroughClaim's.</summary>
    public GuestNuma? GuestNuma { get; set; }

    /// <summary>Taints of nodes that are tolerated, as a PassthroughClaim's.</summary>
    public IReadOnlyList<ClaimToleration>? Tolerations { get; set; }

    /// <summary>The PriorityClass, as a PassthroughClaim's; absent: the pod's priority.</summary>
    public string? PriorityClassName { get; set; }
}
