using k8s;
using k8s.Models;
using PciOperator.Core;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>A name that claims ask for: any of several descriptions of devices, and a NUMA policy. Nova's `[pci]alias`.</summary>
[KubernetesEntity(Group = PciOperatorApi.Group, ApiVersion = PciOperatorApi.Version, Kind = "PciAlias", PluralName = "pcialiases")]
[EntityScope(EntityScope.Cluster), EntityNames("pa", Categories = ["pci"])]
[AdditionalPrinterColumn(".spec.numaPolicy", "NUMA")]
[AdditionalPrinterColumn(".status.nodes", "Nodes", "integer", Description = "Nodes that have a device of it.")]
[AdditionalPrinterColumn(".status.devices", "Devices", "integer", Description = "Devices of it, free or not.")]
[AdditionalPrinterColumn(".status.summary", "Means", Priority = 1, Description = "The devices, any of these.")]
[AdditionalPrinterColumn(".status.conditions[?(@.type==\"Accepted\")].status", "Accepted")]
[AdditionalPrinterColumn(".metadata.creationTimestamp", "Age", "date")]
public sealed record PciAlias : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = PciOperatorApi.GroupVersion;

    /// <inheritdoc/>
    public string? Kind { get; set; } = "PciAlias";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>What the name stands for.</summary>
    [Required]
    public PciAliasSpec Spec { get; set; } = new();

    /// <summary>What the controller made of it.</summary>
    public PciAliasStatus? Status { get; set; }
}

/// <summary>What an alias stands for.</summary>
public sealed record PciAliasSpec
{
    /// <summary>The devices, any of these.</summary>
    [Required, Items(1, 16)]
    public IReadOnlyList<AliasDevice> Devices { get; set; } = [];

    /// <summary>Where devices must sit when a claim doesn't say: `required`, `socket`, `preferred` or `legacy`.</summary>
    [Default("\"legacy\"")]
    public NumaPolicy NumaPolicy { get; set; } = NumaPolicy.Legacy;

    /// <summary>True: only devices whose spec says liveMigratable true; false: only those that say false; absent: any.</summary>
    public bool? LiveMigratable { get; set; }

    /// <summary>For guests whose driver refuses to run in a VM: the hypervisor is hidden from them.</summary>
    public bool? HideHypervisor { get; set; }

    /// <summary>
    /// The namespaces whose claims may ask for it; absent: all. What is placed already keeps its devices when this, or a namespace's labels,
    /// change.
    /// </summary>
    public NamespaceSelector? NamespaceSelector { get; set; }
}

/// <summary>One description of devices that an alias stands for; every field that is given must match.</summary>
public sealed partial record AliasDevice
{
    /// <summary>PCI vendor id: four hexadecimal digits. Quote it in YAML: `"10de"`.</summary>
    [Length(1, 64)]
    public string? VendorId { get; set; }

    /// <summary>PCI device id: four hexadecimal digits. Quote it in YAML: `"1e04"`.</summary>
    [Length(1, 64)]
    public string? ProductId { get; set; }

    /// <summary>`type-PCI`, `type-PF` or `type-VF`. Absent: type-PCI and type-VF.</summary>
    [Except("vdpa")]
    public DeviceType? DeviceType { get; set; }

    /// <summary>The resource class that the device's spec gives it, or the default `CUSTOM_PCI_VENDOR_PRODUCT`.</summary>
    [Length(1, 255)]
    public string? ResourceClass { get; set; }

    /// <summary>Traits that the device's spec must give it.</summary>
    [Items(0, 32), Length(1, 255), ListSet]
    public IReadOnlyList<string>? Traits { get; set; }

    /// <summary>The physical network that the device's spec must name.</summary>
    [Length(1, 255)]
    public string? PhysicalNetwork { get; set; }

    /// <summary>Whether the device's spec must say trusted.</summary>
    public bool? Trusted { get; set; }

    /// <summary>True: only devices that are remote-managed. Without it such devices are never given.</summary>
    public bool? RemoteManaged { get; set; }

    /// <summary>Tags that the device's spec must give it.</summary>
    [Items(0, 32), Length(0, 255)]
    public IReadOnlyDictionary<string, string>? Tags { get; set; }
}

/// <summary>What the controller made of a PciAlias.</summary>
public sealed record PciAliasStatus
{
    /// <summary>The generation that this status is about.</summary>
    public long? ObservedGeneration { get; set; }

    /// <summary>What the alias means, in a word: columns of `kubectl get` can't show lists.</summary>
    [Length(0, 4096)]
    public string? Summary { get; set; }

    /// <summary>Nodes that have at least one device of it.</summary>
    public int? Nodes { get; set; }

    /// <summary>Devices of it on all nodes, free or not.</summary>
    public int? Devices { get; set; }

    /// <summary>`Accepted`: whether the alias can be used. `Stalled`: it can't.</summary>
    [Items(0, 16), ListMapKeys("type")]
    public IReadOnlyList<V1Condition>? Conditions { get; set; }
}
