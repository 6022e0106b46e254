using k8s;
using k8s.Models;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>
/// How many devices each of some namespaces may hold, by alias. It is counted from what is given away: lowering a limit takes nobody's device, and
/// nothing new is placed until use is below it. Of several that hold for a namespace each is kept.
/// </summary>
[KubernetesEntity(Group = PciOperatorApi.Group, ApiVersion = PciOperatorApi.Version, Kind = "PciQuota", PluralName = "pciquotas")]
[EntityScope(EntityScope.Cluster), EntityNames("pq", Categories = ["pci"])]
[AdditionalPrinterColumn(".status.summary", "Limits", Description = "The limits of each namespace.")]
[AdditionalPrinterColumn(".status.namespaces", "Namespaces", "integer", Description = "Namespaces that it holds for.")]
[AdditionalPrinterColumn(".status.full", "Full", "integer", Description = "Of those, how many have reached a limit.")]
[AdditionalPrinterColumn(".metadata.creationTimestamp", "Age", "date")]
public sealed record PciQuota : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = PciOperatorApi.GroupVersion;

    /// <inheritdoc/>
    public string? Kind { get; set; } = "PciQuota";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>For whom, and how many.</summary>
    [Required]
    public PciQuotaSpec Spec { get; set; } = new();

    /// <summary>What is used. Written by the controller alone.</summary>
    public PciQuotaStatus? Status { get; set; }
}

/// <summary>For whom a quota is, and how many devices each may hold.</summary>
public sealed partial record PciQuotaSpec
{
    /// <summary>
    /// The namespaces by name. The quota holds for these and for those that `namespaceSelector` selects; without both, for every namespace.
    /// </summary>
    [Items(1, 256), Length(1, 63), ListSet]
    public IReadOnlyList<string>? Namespaces { get; set; }

    /// <summary>The namespaces by their labels.</summary>
    public NamespaceSelector? NamespaceSelector { get; set; }

    /// <summary>The limits. Each namespace has all of them for itself: they are not shared out among the namespaces.</summary>
    [Required, Items(1, 32), ListMapKeys("alias")]
    public IReadOnlyList<QuotaLimit> Limits { get; set; } = [];

    /// <summary>Whether it holds for a namespace.</summary>
    /// <param name="ns">The namespace's name.</param>
    /// <param name="labels">Its labels; null: it has none.</param>
    public bool HoldsFor(string ns, IDictionary<string, string>? labels) =>
        (Namespaces is null && NamespaceSelector is null) || Namespaces?.Contains(ns) == true || NamespaceSelector?.Matches(labels) == true;
}

/// <summary>How many devices of an alias a namespace may hold.</summary>
public sealed partial record QuotaLimit
{
    /// <summary>The PciAlias' name, or `*` for the devices of all aliases together.</summary>
    [Required, Length(1, 253)]
    public string Alias { get; set; } = "";

    /// <summary>
    /// The most devices: what claims ask for, by alias, whether or not other functions of an IOMMU group go along. 0: none.
    /// </summary>
    [Required, Range(0, 1000000)]
    public int Devices { get; set; }
}

/// <summary>What of a quota is used.</summary>
public sealed record PciQuotaStatus
{
    /// <summary>The generation that this status is about: from then on the quota holds.</summary>
    public long? ObservedGeneration { get; set; }

    /// <summary>The limits in a word each: columns of `kubectl get` can't show lists.</summary>
    [Length(0, 2048)]
    public string? Summary { get; set; }

    /// <summary>The namespaces that it holds for.</summary>
    public int? Namespaces { get; set; }

    /// <summary>Of those, how many have reached a limit.</summary>
    public int? Full { get; set; }

    /// <summary>The namespaces that use something, the fullest first; of more than 128 the others are not shown.</summary>
    [Items(0, 128), ListMapKeys("namespace", WholeItems = true)]
    public IReadOnlyList<QuotaUse>? Used { get; set; }

    /// <summary>
    /// Devices that a controller is about to give away: they count until the assignment on the PciNode does. What a controller that died left
    /// behind is dropped.
    /// </summary>
    [Items(0, 512), ListMapKeys("claimUid", "by", WholeItems = true)]
    public IReadOnlyList<QuotaReservation>? Reservations { get; set; }

    /// <summary>The version of PciNodes that one must have seen to count: reservations up to it have become assignments and are dropped.</summary>
    [Length(0, 20)]
    public string? AssignmentsSeen { get; set; }
}

/// <summary>What a namespace uses of a quota.</summary>
public sealed record QuotaUse
{
    /// <summary>The namespace.</summary>
    [Required, Length(1, 63)]
    public string Namespace { get; set; } = "";

    /// <summary>Use of each limit.</summary>
    [Required, Items(0, 32)]
    public IReadOnlyList<QuotaUseOfLimit> Limits { get; set; } = [];
}

/// <summary>Use of one limit.</summary>
public sealed record QuotaUseOfLimit
{
    /// <summary>The alias, or `*` for all.</summary>
    [Required, Length(1, 253)]
    public string Alias { get; set; } = "";

    /// <summary>Devices that count.</summary>
    [Required]
    public int Used { get; set; }

    /// <summary>The most devices.</summary>
    [Required]
    public int Limit { get; set; }
}

/// <summary>Devices that are about to be given to a claim.</summary>
public sealed record QuotaReservation
{
    /// <summary>The claim's UID.</summary>
    [Required, Length(1, 64)]
    public string ClaimUid { get; set; } = "";

    /// <summary>The controller that is about to give them.</summary>
    [Required, Length(1, 64)]
    public string By { get; set; } = "";

    /// <summary>The claim's namespace.</summary>
    [Required, Length(1, 63)]
    public string Namespace { get; set; } = "";

    /// <summary>The node whose devices they are.</summary>
    [Required, Length(1, 253)]
    public string NodeName { get; set; } = "";

    /// <summary>How many by alias, as the claim asks: `a1:2,a2:1`.</summary>
    [Required, Length(1, 4096)]
    public string Devices { get; set; } = "";
}
