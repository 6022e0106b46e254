using k8s;
using k8s.Models;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>Which devices on which nodes may be given away, and how they are kept. Nova's `[pci]device_spec`.</summary>
[KubernetesEntity(Group = PciOperatorApi.Group, ApiVersion = PciOperatorApi.Version, Kind = "PciDeviceSpec", PluralName = "pcidevicespecs")]
[EntityScope(EntityScope.Cluster), EntityNames("pds", Categories = ["pci"])]
[AdditionalPrinterColumn(".spec.priority", "Priority", "integer", Description = "Higher first; the first spec that matches a device wins.")]
[AdditionalPrinterColumn(".status.nodes", "Nodes", "integer", Description = "Nodes on which it matches a device.")]
[AdditionalPrinterColumn(".status.devices", "Devices", "integer", Description = "Devices that it matches.")]
[AdditionalPrinterColumn(".status.conditions[?(@.type==\"Accepted\")].status", "Accepted")]
[AdditionalPrinterColumn(".spec.driver", "Driver", Priority = 1)]
[AdditionalPrinterColumn(".spec.managed", "Managed", "boolean", Priority = 1)]
[AdditionalPrinterColumn(".spec.sriov.numVfs", "VFs", "integer", Priority = 1)]
[AdditionalPrinterColumn(".status.conditions[?(@.type==\"Accepted\")].message", "Message", Priority = 1)]
[AdditionalPrinterColumn(".metadata.creationTimestamp", "Age", "date")]
public sealed record PciDeviceSpec : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = PciOperatorApi.GroupVersion;

    /// <inheritdoc/>
    public string? Kind { get; set; } = "PciDeviceSpec";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>What may be given away.</summary>
    [Required]
    public PciDeviceSpecSpec Spec { get; set; } = new();

    /// <summary>What the controller made of it.</summary>
    public PciDeviceSpecStatus? Status { get; set; }
}

/// <summary>What may be given away.</summary>
public sealed partial record PciDeviceSpecSpec : DevicePolicy
{
    /// <summary>Labels of the nodes that it is for; absent: every node.</summary>
    [Items(0, 32), Length(0, 63)]
    public IReadOnlyDictionary<string, string>? NodeSelector { get; set; }

    /// <summary>
    /// Specs of higher priority are looked at first, then by name; the first that matches a device wins, and nothing is merged.
    /// </summary>
    [Range(-1000000, 1000000), Default("0")]
    public int Priority { get; set; }
}

/// <summary>What the controller made of a PciDeviceSpec.</summary>
public sealed record PciDeviceSpecStatus
{
    /// <summary>The generation that this status is about.</summary>
    public long? ObservedGeneration { get; set; }

    /// <summary>Nodes on which it matches at least one device.</summary>
    public int? Nodes { get; set; }

    /// <summary>Devices that it matches, on all nodes.</summary>
    public int? Devices { get; set; }

    /// <summary>`Accepted`: whether the spec can be used. `Applied`, if False: which nodes have no room for it. `Stalled`: one of both is False.</summary>
    [Items(0, 16), ListMapKeys("type")]
    public IReadOnlyList<V1Condition>? Conditions { get; set; }
}
