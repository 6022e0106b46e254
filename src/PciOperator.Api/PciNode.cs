using k8s;
using k8s.Models;
using PciOperator.Core;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>
/// What the controller wants of a node, and the node's devices, pools, IOMMU and VFIO state. Named after its Node. Nova's `pci_stats` and
/// resource tracker.
/// </summary>
[KubernetesEntity(Group = PciOperatorApi.Group, ApiVersion = PciOperatorApi.Version, Kind = "PciNode", PluralName = "pcinodes")]
[EntityScope(EntityScope.Cluster), EntityNames("pn", Categories = ["pci"]), WrittenByPrograms]
[AdditionalPrinterColumn(".status.conditions[?(@.type==\"InventoryReady\")].status", "Ready")]
[AdditionalPrinterColumn(".status.summary.devices", "Devices", "integer")]
[AdditionalPrinterColumn(".status.summary.available", "Available", "integer")]
[AdditionalPrinterColumn(".status.summary.allocated", "Allocated", "integer")]
[AdditionalPrinterColumn(".status.conditions[?(@.type==\"IommuEnabled\")].status", "IOMMU")]
[AdditionalPrinterColumn(".status.conditions[?(@.type==\"VfioReady\")].status", "VFIO")]
[AdditionalPrinterColumn(".status.kernelVersion", "Kernel", Priority = 1)]
[AdditionalPrinterColumn(".status.agentVersion", "Agent", Priority = 1)]
[AdditionalPrinterColumn(".status.summary.claims", "Claims", "integer", Description = "Claims that have devices of the node.")]
[AdditionalPrinterColumn(".metadata.creationTimestamp", "Age", "date")]
public sealed record PciNode : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = PciOperatorApi.GroupVersion;

    /// <inheritdoc/>
    public string? Kind { get; set; } = "PciNode";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>What the controller wants of the node. Written by the controller alone.</summary>
    [Required]
    public PciNodeSpec Spec { get; set; } = new();

    /// <summary>What the node's agent sees and does. Written by the agent alone.</summary>
    public PciNodeStatus? Status { get; set; }
}

/// <summary>What the controller wants of a node.</summary>
public sealed record PciNodeSpec
{
    /// <summary>The PciDeviceSpecs that apply to this node, in the order in which they are tried.</summary>
    [Items(0, 128), ListMapKeys("name", WholeItems = true)]
    public IReadOnlyList<PciNodeRule>? Rules { get; set; }

    /// <summary>The devices that are given away, by claim.</summary>
    [Items(0, 1024), ListMapKeys("claimUid", WholeItems = true)]
    public IReadOnlyList<PciAssignment>? Assignments { get; set; }

    /// <summary>
    /// True on a PciNode that was made anew while claims had devices here: its agent says what it holds, and gives nothing back until the
    /// controller has looked at that.
    /// </summary>
    public bool? Settling { get; set; }
}

/// <summary>One PciDeviceSpec as it applies to a node.</summary>
public sealed record PciNodeRule : DevicePolicy
{
    /// <summary>A rule without a policy yet.</summary>
    public PciNodeRule() { }

    /// <summary>A rule that repeats a policy, all of it.</summary>
    public PciNodeRule(DevicePolicy policy)
        : base(policy) { }

    /// <summary>The PciDeviceSpec's name.</summary>
    [Required, Length(1, 253)]
    public string Name { get; set; } = "";
}

/// <summary>Devices of a node that are given to one claim.</summary>
public sealed record PciAssignment
{
    /// <summary>The claim's namespace.</summary>
    [Required, Length(1, 63)]
    public string ClaimNamespace { get; set; } = "";

    /// <summary>The claim's name.</summary>
    [Required, Length(1, 253)]
    public string ClaimName { get; set; } = "";

    /// <summary>The claim's UID: the owner.</summary>
    [Required, Length(1, 64)]
    public string ClaimUid { get; set; } = "";

    /// <summary>The devices, whole IOMMU groups.</summary>
    [Required, Items(1, 256), ListMapKeys("address", WholeItems = true)]
    public IReadOnlyList<AssignedDevice> Devices { get; set; } = [];

    /// <summary>Whether NUMA policy preferred was met when the devices were chosen; absent when no request has it.</summary>
    public bool? NumaPreferenceMet { get; set; }

    /// <summary>The extended resource by which the device plugin hands the devices out; absent: they are handed out by DRA.</summary>
    [Length(0, 128)]
    public string? ResourceName { get; set; }

    /// <summary>
    /// The UID of the only ResourceClaim that may have the devices; absent: the one of the claim's namespace and name that the claim owns.
    /// </summary>
    [Length(0, 64)]
    public string? ResourceClaimUid { get; set; }
}

/// <summary>
/// One device that is given to a claim, with what the agent checks and does: it holds for as long as the claim, whatever becomes of the
/// spec.
/// </summary>
public sealed record AssignedDevice
{
    /// <summary>Its address.</summary>
    [Required, Pattern("^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$"), Length(1, 16)]
    public string Address { get; set; } = "";

    /// <summary>What it is known by besides its address: serial number, slot or topology path.</summary>
    [Length(0, 255)]
    public string? StableId { get; set; }

    /// <summary>Vendor id.</summary>
    [Required, Pattern("^[0-9a-f]{4}$"), Length(4, 4)]
    public string VendorId { get; set; } = "";

    /// <summary>Device id.</summary>
    [Required, Pattern("^[0-9a-f]{4}$"), Length(4, 4)]
    public string ProductId { get; set; } = "";

    /// <summary>NUMA node; absent when the host doesn't know.</summary>
    public int? NumaNode { get; set; }

    /// <summary>IOMMU group.</summary>
    [Range(0, 2147483647)]
    public int? IommuGroup { get; set; }

    /// <summary>The request that it serves; absent for a companion.</summary>
    [Length(0, 63)]
    public string? Request { get; set; }

    /// <summary>The alias that the request asks for, which counts against quotas; absent for a companion.</summary>
    [Length(0, 253)]
    public string? Alias { get; set; }

    /// <summary>True when it goes along because it shares an IOMMU group with a device that was asked for.</summary>
    public bool? Companion { get; set; }

    /// <summary>The driver to bind it to.</summary>
    [Default("\"vfio-pci\"")]
    public BindDriver Driver { get; set; } = BindDriver.VfioPci;

    /// <summary>Whether the agent binds and restores it.</summary>
    [Default("true")]
    public bool Managed { get; set; } = true;

    /// <summary>Whether it is reset between owners.</summary>
    [Default("\"bestEffort\"")]
    public ResetMode Reset { get; set; } = ResetMode.BestEffort;

    /// <summary>True when it stays withheld after this owner, until an administrator frees it.</summary>
    public bool? OneTimeUse { get; set; }
}

/// <summary>What a node's agent sees and does.</summary>
public sealed record PciNodeStatus
{
    /// <summary>The most devices that <see cref="Unmatched"/> names.</summary>
    public const int MostUnmatched = 64;

    /// <summary>
    /// The generation of the spec that the agent has taken up: every assignment of it is in its journal or answered below.
    /// </summary>
    public long? ObservedGeneration { get; set; }

    /// <summary>The running kernel.</summary>
    [Length(0, 255)]
    public string? KernelVersion { get; set; }

    /// <summary>The kernel's boot id.</summary>
    [Length(0, 64)]
    public string? BootId { get; set; }

    /// <summary>The agent's version.</summary>
    [Length(0, 64)]
    public string? AgentVersion { get; set; }

    /// <summary>The host's NUMA nodes that have CPUs, with or without a device: what the policy `socket` is decided by.</summary>
    [Items(0, 128), ListMapKeys("id", WholeItems = true)]
    public IReadOnlyList<PciNodeNumaNode>? NumaNodes { get; set; }

    /// <summary>Devices by state.</summary>
    public PciNodeSummary? Summary { get; set; }

    /// <summary>The devices that a rule matches, and the rest of their IOMMU groups.</summary>
    [Items(0, 1024), ListMapKeys("address", WholeItems = true)]
    public IReadOnlyList<PciNodeDevice>? Devices { get; set; }

    /// <summary>
    /// Devices that no rule matches, for `kubectl pci discover`: neither bridges nor VFs, nor what the host itself is made of. The
    /// first ones by address; nothing is decided by them.
    /// </summary>
    [Items(0, MostUnmatched), ListMapKeys("address", WholeItems = true)]
    public IReadOnlyList<PciNodeDevice>? Unmatched { get; set; }

    /// <summary>Where the agent is with each assignment, and with what its journal still holds.</summary>
    [Items(0, 1024), ListMapKeys("claimUid", WholeItems = true)]
    public IReadOnlyList<AssignmentStatus>? Assignments { get; set; }

    /// <summary>Like devices together, by Nova's pool key.</summary>
    [Items(0, 1024)]
    public IReadOnlyList<PciPool>? Pools { get; set; }

    /// <summary>
    /// `IommuEnabled`, `VfioReady`, `KubeletRegistered`, `InventoryReady`, `InventoryTruncated`, `DevicesHealthy`, `DriftDetected`, and the facts of the host
    /// that help or hinder passthrough.
    /// </summary>
    [Items(0, 32), ListMapKeys("type")]
    public IReadOnlyList<V1Condition>? Conditions { get; set; }
}

/// <summary>One NUMA node of a host.</summary>
public sealed record PciNodeNumaNode
{
    /// <summary>Its number.</summary>
    [Required]
    public int Id { get; set; }

    /// <summary>The CPU socket that it is in; absent when the host doesn't know.</summary>
    public int? Socket { get; set; }
}

/// <summary>A node's devices by state.</summary>
public sealed record PciNodeSummary
{
    /// <summary>Devices that a rule matches.</summary>
    public int Devices { get; set; }

    /// <summary>Of these, free.</summary>
    public int Available { get; set; }

    /// <summary>Of these, given to a claim and not bound yet.</summary>
    public int Claimed { get; set; }

    /// <summary>Of these, bound for a claim.</summary>
    public int Allocated { get; set; }

    /// <summary>Claims that have devices of the node.</summary>
    public int? Claims { get; set; }
}

/// <summary>One PCI function of a node.</summary>
public sealed record PciNodeDevice
{
    /// <summary>Its address.</summary>
    [Required, Pattern("^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$"), Length(1, 16)]
    public string Address { get; set; } = "";

    /// <summary>What it is known by besides its address: serial number, slot or topology path.</summary>
    [Length(0, 255)]
    public string? StableId { get; set; }

    /// <summary>Vendor id.</summary>
    [Required, Pattern("^[0-9a-f]{4}$"), Length(4, 4)]
    public string VendorId { get; set; } = "";

    /// <summary>Device id.</summary>
    [Required, Pattern("^[0-9a-f]{4}$"), Length(4, 4)]
    public string ProductId { get; set; } = "";

    /// <summary>Subsystem vendor id.</summary>
    [Pattern("^([0-9a-f]{4})?$"), Length(0, 4)]
    public string? SubsystemVendorId { get; set; }

    /// <summary>Subsystem device id.</summary>
    [Pattern("^([0-9a-f]{4})?$"), Length(0, 4)]
    public string? SubsystemProductId { get; set; }

    /// <summary>Class, subclass and programming interface, six hexadecimal digits.</summary>
    [Pattern("^([0-9a-f]{6})?$"), Length(0, 6)]
    public string? ClassCode { get; set; }

    /// <summary>What it is, from pci.ids.</summary>
    [Length(0, 255)]
    public string? Name { get; set; }

    /// <summary>`type-PCI`, `type-PF`, `type-VF` or `vdpa`.</summary>
    public DeviceType Type { get; set; }

    /// <summary>A VF's PF.</summary>
    [Pattern("^([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7])?$"), Length(0, 16)]
    public string? ParentAddress { get; set; }

    /// <summary>NUMA node; absent when the host doesn't know.</summary>
    [Range(0, 2147483647)]
    public int? NumaNode { get; set; }

    /// <summary>CPU socket of the NUMA node; absent when the host doesn't know.</summary>
    [Range(0, 2147483647)]
    public int? Socket { get; set; }

    /// <summary>The root bus that it hangs on, such as `pci0000:64`, by the name that DRA drivers give it.</summary>
    [Pattern("^(pci[0-9a-f]{4,8}:[0-9a-f]{2})?$"), Length(0, 16)]
    public string? PcieRoot { get; set; }

    /// <summary>IOMMU group; absent when there is none, and then it can't be given away.</summary>
    [Range(0, 2147483647)]
    public int? IommuGroup { get; set; }

    /// <summary>The driver that it is bound to; absent: none.</summary>
    [Length(0, 64)]
    public string? Driver { get; set; }

    /// <summary>Its network interface on the host.</summary>
    [Length(0, 15)]
    public string? DeviceName { get; set; }

    /// <summary>Serial number, from VPD or the PCIe capability.</summary>
    [Length(0, 128)]
    public string? Serial { get; set; }

    /// <summary>The most VFs that a PF can have.</summary>
    [Range(0, 2147483647)]
    public int? TotalVfs { get; set; }

    /// <summary>The VFs that a PF has now.</summary>
    [Range(0, 2147483647)]
    public int? NumVfs { get; set; }

    /// <summary>How the kernel can reset it, best first.</summary>
    [Items(0, 16), Length(1, 32)]
    public IReadOnlyList<string>? ResetMethods { get; set; }

    /// <summary>The reset that has worked on it, such as `flr` or `vfio hot reset`; absent: none has been tried, or none works.</summary>
    [Length(0, 64)]
    public string? ProvenReset { get; set; }

    /// <summary>True for bridges and root ports: never handed out, and no hindrance to their group.</summary>
    public bool? Bridge { get; set; }

    /// <summary>The rule (PciDeviceSpec) that matched it first; absent: it is here because of its group.</summary>
    [Length(0, 253)]
    public string? Rule { get; set; }

    /// <summary>Its state, in Nova's words.</summary>
    public DeviceState? State { get; set; }

    /// <summary>Why it is not offered.</summary>
    [Length(0, 1024)]
    public string? Reason { get; set; }

    /// <summary>
    /// One word when it is not offered although nothing uses it: `UsedOnce`, `NotClean`, `NoReset`, `CannotBind`, `GroupHasPf`,
    /// `ConfigSpaceGone`, `NotAnswering`.
    /// </summary>
    [Pattern("^([A-Za-z][A-Za-z0-9]*)?$"), Length(0, 64)]
    public string? WithheldBy { get; set; }

    /// <summary>What is wrong with it, without keeping it from its users.</summary>
    [Items(0, 8), ListMapKeys("type", WholeItems = true)]
    public IReadOnlyList<PciDeviceProblem>? Problems { get; set; }
}

/// <summary>Something wrong with a device.</summary>
public sealed record PciDeviceProblem
{
    /// <summary>`ConfigSpaceGone`, `AerErrors` or `LinkDegraded`.</summary>
    [Required, Pattern("^[A-Za-z][A-Za-z0-9]*$"), Length(1, 64)]
    public string Type { get; set; } = "";

    /// <summary>What is wrong, in a sentence.</summary>
    [Length(0, 1024)]
    public string? Message { get; set; }
}

/// <summary>Where the agent is with one claim's devices.</summary>
public sealed record AssignmentStatus
{
    /// <summary>The claim's UID.</summary>
    [Required, Length(1, 64)]
    public string ClaimUid { get; set; } = "";

    /// <summary>The claim's namespace.</summary>
    [Length(0, 63)]
    public string? ClaimNamespace { get; set; }

    /// <summary>The claim's name.</summary>
    [Length(0, 253)]
    public string? ClaimName { get; set; }

    /// <summary>Where the agent is with it.</summary>
    [Required]
    public HoldingState State { get; set; }

    /// <summary>One word for why.</summary>
    [Pattern("^([A-Za-z][A-Za-z0-9]*)?$"), Length(0, 64)]
    public string? Reason { get; set; }

    /// <summary>Why, in a sentence.</summary>
    [Length(0, 1024)]
    public string? Message { get; set; }

    /// <summary>The devices.</summary>
    [Items(0, 256), ListMapKeys("address", WholeItems = true)]
    public IReadOnlyList<AssignedDeviceStatus>? Devices { get; set; }

    /// <summary>True while the kubelet has the devices prepared for a pod (DRA), or a container has them (device plugin).</summary>
    public bool? Delivered { get; set; }

    /// <summary>The extended resource that the kubelet has taken the devices up under; absent: none.</summary>
    [Length(0, 128)]
    public string? ResourceName { get; set; }

    /// <summary>The pods that have its extended resource, as `namespace/name`, by the kubelet's word.</summary>
    [Items(0, 16), Length(1, 320)]
    public IReadOnlyList<string>? Pods { get; set; }
}

/// <summary>One device of an assignment, as it is on the node.</summary>
public sealed record AssignedDeviceStatus
{
    /// <summary>Its address.</summary>
    [Required, Pattern("^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$"), Length(1, 16)]
    public string Address { get; set; } = "";

    /// <summary>The driver that it is bound to; absent: none.</summary>
    [Length(0, 64)]
    public string? Driver { get; set; }

    /// <summary>The driver that it goes back to.</summary>
    [Length(0, 64)]
    public string? OriginalDriver { get; set; }

    /// <summary>What the agent's journal has of how it is kept; absent while it is not in the journal.</summary>
    public HeldPolicy? Policy { get; set; }

    /// <summary>The device node that a VM opens, such as `/dev/vfio/13`.</summary>
    [Length(0, 64)]
    public string? DeviceNode { get; set; }
}

/// <summary>How a held device is kept, whatever has become of its spec.</summary>
public sealed record HeldPolicy
{
    /// <summary>How a device of a rule is kept; without a rule, as one that says nothing of it.</summary>
    public static HeldPolicy Of(DevicePolicy? policy) =>
        policy is null
            ? new HeldPolicy()
            : new HeldPolicy
            {
                Driver = policy.Driver,
                Managed = policy.Managed,
                Reset = policy.Reset,
                OneTimeUse = policy.OneTimeUse == true ? true : null,
            };

    /// <summary>The driver that was asked for.</summary>
    public BindDriver Driver { get; set; } = BindDriver.VfioPci;

    /// <summary>Whether the agent binds and restores it.</summary>
    public bool Managed { get; set; } = true;

    /// <summary>Whether it is reset between owners.</summary>
    public ResetMode Reset { get; set; } = ResetMode.BestEffort;

    /// <summary>True when it stays withheld after this owner.</summary>
    public bool? OneTimeUse { get; set; }
}

/// <summary>Like devices of a node: Nova's pool.</summary>
public sealed record PciPool
{
    /// <summary>Vendor id.</summary>
    [Pattern("^([0-9a-f]{4})?$"), Length(0, 4)]
    public string? VendorId { get; set; }

    /// <summary>Device id.</summary>
    [Pattern("^([0-9a-f]{4})?$"), Length(0, 4)]
    public string? ProductId { get; set; }

    /// <summary>Device type.</summary>
    public DeviceType Type { get; set; }

    /// <summary>NUMA node; absent when the host doesn't know.</summary>
    [Range(0, 2147483647)]
    public int? NumaNode { get; set; }

    /// <summary>The device itself, or the VFs' PF.</summary>
    [Pattern("^([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7])?$"), Length(0, 16)]
    public string? Address { get; set; }

    /// <summary>The rule (PciDeviceSpec) that matched them.</summary>
    [Length(0, 253)]
    public string? Rule { get; set; }

    /// <summary>How many there are.</summary>
    public int Total { get; set; }

    /// <summary>How many are free.</summary>
    public int Available { get; set; }

    /// <summary>How many are given to a claim and not bound yet.</summary>
    public int Claimed { get; set; }

    /// <summary>How many are bound for a claim.</summary>
    public int Allocated { get; set; }
}
