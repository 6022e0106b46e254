using System.Text.Json.Serialization;
using k8s;
using k8s.Models;
using PciOperator.Core;
using PciOperator.Kubernetes.Schema;

namespace PciOperator.Api;

/// <summary>
/// Devices that somebody asks for, placed on one node and held until the claim is deleted. Nova's flavor `pci_passthrough:alias` and an
/// instance's claim.
/// </summary>
[KubernetesEntity(
    Group = PciOperatorApi.Group,
    ApiVersion = PciOperatorApi.Version,
    Kind = "PassthroughClaim",
    PluralName = "passthroughclaims"
)]
[EntityScope(EntityScope.Namespaced), EntityNames("ptc", Categories = ["pci"])]
[SelectableField(".status.nodeName")]
[AdditionalPrinterColumn(".status.phase", "Phase")]
[AdditionalPrinterColumn(".status.nodeName", "Node")]
[AdditionalPrinterColumn(".status.conditions[?(@.type==\"Ready\")].status", "Ready")]
[AdditionalPrinterColumn(".status.summary.requests", "Requests")]
[AdditionalPrinterColumn(".status.summary.devices", "Devices", Priority = 1)]
[AdditionalPrinterColumn(".status.conditions[?(@.type==\"Ready\")].message", "Message", Priority = 1)]
[AdditionalPrinterColumn(".metadata.creationTimestamp", "Age", "date")]
[Kubernetes.LeanMetadata(PciOperatorApi.ClaimFinalizer)]
public sealed partial record PassthroughClaim : IKubernetesObject<V1ObjectMeta>
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = PciOperatorApi.GroupVersion;

    /// <inheritdoc/>
    public string? Kind { get; set; } = "PassthroughClaim";

    /// <inheritdoc/>
    public V1ObjectMeta Metadata { get; set; } = new();

    /// <summary>What is asked for. It can't be changed: delete the claim and make a new one.</summary>
    [Required]
    public PassthroughClaimSpec Spec { get; set; } = new();

    /// <summary>Where the claim is in its life. Written by the controller alone.</summary>
    public PassthroughClaimStatus? Status { get; set; }
}

/// <summary>What a claim asks for.</summary>
public sealed partial record PassthroughClaimSpec
{
    /// <summary>The requests; all are served from one node, or none is.</summary>
    [Required, Items(1, 8), ListMapKeys("name")]
    public IReadOnlyList<ClaimRequest> Requests { get; set; } = [];

    /// <summary>The requests as Nova's flavors write them: <c>a1:2,a2:1</c>.</summary>
    public string RequestsToNova() => string.Join(',', Requests.Select(r => $"{r.Alias}:{r.Count}"));

    /// <summary>The NUMA policy of every request that has none of its own; it overrides the aliases', as a flavor's does.</summary>
    public NumaPolicy? NumaPolicy { get; set; }

    /// <summary>The host NUMA nodes that the guest's CPUs and memory sit on. Absent, and `guestNuma` too: not known yet.</summary>
    [Items(1, 16), Range(0, 1023), ListSet]
    public IReadOnlyList<int>? NumaNodes { get; set; }

    /// <summary>`none` for a guest without a NUMA topology: no NUMA policy then keeps a device away.</summary>
    public GuestNuma? GuestNuma { get; set; }

    /// <summary>The only node to place it on; not together with `nodeSelector`.</summary>
    [Length(1, 253)]
    public string? NodeName { get; set; }

    /// <summary>Labels that the node must have; not together with `nodeName`.</summary>
    [Items(0, 32), Length(0, 63)]
    public IReadOnlyDictionary<string, string>? NodeSelector { get; set; }

    /// <summary>Taints of nodes that the claim tolerates, as a pod does.</summary>
    [Items(0, 32)]
    public IReadOnlyList<ClaimToleration>? Tolerations { get; set; }

    /// <summary>Claims of the same namespace that must be on the same node: a VM with two claims.</summary>
    [Items(0, 16), Length(1, 253), ListSet]
    public IReadOnlyList<string>? CoLocateWith { get; set; }

    /// <summary>
    /// When the claim is placed. `Immediate`: as soon as a node can serve it. `WaitForFirstConsumer`: when a pod or VM wants it, on the node
    /// that kube-scheduler takes by CPU, memory and affinity among those that can serve it.
    /// </summary>
    [Default("\"Immediate\"")]
    public BindingMode BindingMode { get; set; } = BindingMode.Immediate;

    /// <summary>
    /// The PriorityClass (scheduling.k8s.io) by whose value the claim is served among those that wait: higher ones first, and of equal ones each
    /// namespace in turn. Nobody's devices are taken away for it. Absent: the class that is everybody's default, else 0; a template's claim has
    /// its pod's priority.
    /// </summary>
    [Length(1, 253)]
    public string? PriorityClassName { get; set; }

    /// <summary>
    /// How a VM or pod gets the devices: `DRA`, by the ResourceClaim of the claim's name, or `DevicePlugin`, by the extended resource that
    /// status.resourceName names, or `None`, for who runs on the node without Kubernetes (QEMU, libvirt). Absent: as the installation says, which
    /// is by DRA where the cluster serves resource.k8s.io/v1, else by the device plugin.
    /// </summary>
    public Delivery? Delivery { get; set; }
}

/// <summary>One request of a claim: so many devices of an alias.</summary>
public sealed partial record ClaimRequest
{
    /// <summary>The request's name, unique in the claim.</summary>
    [Required, Length(1, 63)]
    public string Name { get; set; } = "";

    /// <summary>The PciAlias' name.</summary>
    [Required, Length(1, 253)]
    public string Alias { get; set; } = "";

    /// <summary>How many devices of it.</summary>
    [Range(1, 16), Default("1")]
    public int Count { get; set; } = 1;

    /// <summary>The NUMA policy of this request; it overrides the claim's and the alias'.</summary>
    public NumaPolicy? NumaPolicy { get; set; }
}

/// <summary>A taint that a claim tolerates; the meaning of the fields is that of a pod's tolerations.</summary>
public sealed partial record ClaimToleration
{
    /// <summary>The taint's key; absent with operator Exists: every taint.</summary>
    [Length(0, 316)]
    public string? Key { get; set; }

    /// <summary>`Equal` (the default) or `Exists`.</summary>
    public TolerationOperator? Operator { get; set; }

    /// <summary>The taint's value, for `Equal`.</summary>
    [Length(0, 63)]
    public string? Value { get; set; }

    /// <summary>The taint's effect; absent: all.</summary>
    public TaintEffect? Effect { get; set; }
}

/// <summary>How a toleration compares.</summary>
public enum TolerationOperator
{
    /// <summary>Key and value are equal.</summary>
    Equal,

    /// <summary>The key is there.</summary>
    Exists,
}

/// <summary>What a taint does.</summary>
public enum TaintEffect
{
    /// <summary>Nothing new is placed.</summary>
    NoSchedule,

    /// <summary>Nothing new is placed if it can be helped.</summary>
    PreferNoSchedule,

    /// <summary>Nothing new is placed, and what is there leaves.</summary>
    NoExecute,
}

/// <summary>Where a claim is in its life.</summary>
public sealed record PassthroughClaimStatus
{
    /// <summary>`Pending`, `Claimed` (placed), `Allocated` (bound and verified), `Releasing` or `Failed`.</summary>
    public ClaimPhase? Phase { get; set; }

    /// <summary>The generation that this status is about.</summary>
    public long? ObservedGeneration { get; set; }

    /// <summary>The node that the claim is placed on.</summary>
    [Length(0, 253)]
    public string? NodeName { get; set; }

    /// <summary>What is asked for and held, in a word each: columns of `kubectl get` can't show lists.</summary>
    public ClaimSummary? Summary { get; set; }

    /// <summary>The devices that the claim holds.</summary>
    [Items(0, 256), ListMapKeys("address", WholeItems = true)]
    public IReadOnlyList<ClaimDevice>? Devices { get; set; }

    /// <summary>The host NUMA nodes of the devices, for CPU pinning to follow.</summary>
    [Items(0, 64)]
    public IReadOnlyList<int>? NumaNodes { get; set; }

    /// <summary>Whether NUMA policy preferred was met on one NUMA node; absent when no request has it.</summary>
    public bool? NumaPreferenceMet { get; set; }

    /// <summary>
    /// The boot of the node in which the devices were ready: until it ends a VM may run with them, and the claim leaves the node only when
    /// it is deleted or the node is tainted out-of-service.
    /// </summary>
    [Length(0, 64)]
    public string? HandedOutIn { get; set; }

    /// <summary>Devices that a node's agent refused to give to this claim, and why; they are kept out until the time given.</summary>
    [Items(0, 64)]
    public IReadOnlyList<ClaimRefusal>? Refusals { get; set; }

    /// <summary>The extended resource that containers ask for when the claim is delivered by the device plugin; absent: by DRA.</summary>
    [Length(0, 128)]
    public string? ResourceName { get; set; }

    /// <summary>
    /// `Scheduled`, `Prepared` (bound and verified on the node), `Ready` (a VM or pod can use it now), `InUse` (by which pods), and
    /// `Stalled` when a person has to look at its devices or node.
    /// </summary>
    [Items(0, 16), ListMapKeys("type")]
    public IReadOnlyList<V1Condition>? Conditions { get; set; }
}

/// <summary>A claim in a word each.</summary>
public sealed record ClaimSummary
{
    /// <summary>What is asked for, as Nova's flavors write it: `a1:2,a2:1`.</summary>
    [Length(0, 2048)]
    public string? Requests { get; set; }

    /// <summary>The devices that serve the requests, and how many go along.</summary>
    [Length(0, 4096)]
    public string? Devices { get; set; }
}

/// <summary>One device that a claim holds.</summary>
public sealed record ClaimDevice
{
    /// <summary>Its address on the node.</summary>
    [Required, Pattern("^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$"), Length(1, 16)]
    public string Address { get; set; } = "";

    /// <summary>The request that it serves; absent for a companion.</summary>
    [Length(0, 63)]
    public string? Request { get; set; }

    /// <summary>PCI vendor id, four hexadecimal digits.</summary>
    [Pattern("^([0-9a-f]{4})?$"), Length(0, 4)]
    public string? VendorId { get; set; }

    /// <summary>PCI device id, four hexadecimal digits.</summary>
    [Pattern("^([0-9a-f]{4})?$"), Length(0, 4)]
    public string? ProductId { get; set; }

    /// <summary>NUMA node; absent when the host doesn't know.</summary>
    public int? NumaNode { get; set; }

    /// <summary>IOMMU group.</summary>
    public int? IommuGroup { get; set; }

    /// <summary>The driver that it is bound to now.</summary>
    [Length(0, 64)]
    public string? Driver { get; set; }

    /// <summary>Its state, in Nova's words.</summary>
    public DeviceState? State { get; set; }

    /// <summary>True when it was not asked for but shares an IOMMU group with a device that was.</summary>
    public bool? Companion { get; set; }
}

/// <summary>Devices that a node's agent refused to give to a claim.</summary>
public sealed record ClaimRefusal
{
    /// <summary>The node.</summary>
    [Required, Length(1, 253)]
    public string NodeName { get; set; } = "";

    /// <summary>The devices' addresses.</summary>
    [Required, Items(1, 256), Pattern("^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$"), Length(1, 16)]
    public IReadOnlyList<string> Addresses { get; set; } = [];

    /// <summary>One word for why.</summary>
    [Pattern("^([A-Za-z][A-Za-z0-9]*)?$"), Length(0, 64)]
    public string? Reason { get; set; }

    /// <summary>Why, in a sentence.</summary>
    [Length(0, 1024)]
    public string? Message { get; set; }

    /// <summary>Until when they are kept out.</summary>
    public DateTimeOffset? Until { get; set; }

    /// <summary>
    /// Whether it counts: status is no input, so an end beyond any that the controller gives is none, and neither is one that is missing.
    /// </summary>
    /// <param name="now">The time.</param>
    public bool IsInForce(DateTimeOffset now) => Until is { } until && until > now && until - now <= Longest;

    private static readonly TimeSpan Longest = TimeSpan.FromDays(7);
}

/// <summary>When a claim is placed.</summary>
public enum BindingMode
{
    /// <summary>As soon as a node can serve it.</summary>
    Immediate,

    /// <summary>When a pod wants it: kube-scheduler takes the node, among those that can serve it.</summary>
    WaitForFirstConsumer,
}

/// <summary>How a VM or pod gets a claim's devices.</summary>
public enum Delivery
{
    /// <summary>By a ResourceClaim (dynamic resource allocation).</summary>
    DRA,

    /// <summary>By an extended resource of the claim's own.</summary>
    DevicePlugin,

    /// <summary>Not at all: who runs on the node without Kubernetes (QEMU, libvirt) opens the device nodes there.</summary>
    None,
}

/// <summary>Whether a guest has a NUMA topology when its NUMA nodes are not given.</summary>
public enum GuestNuma
{
    /// <summary>A guest without NUMA: no device is filtered by its NUMA node, whatever the policy.</summary>
    [JsonStringEnumMemberName("none")]
    None,
}

/// <summary>Where a claim is in its life.</summary>
public enum ClaimPhase
{
    /// <summary>Not placed yet; the condition Scheduled says why.</summary>
    Pending,

    /// <summary>Placed on a node; the agent has still to bind its devices.</summary>
    Claimed,

    /// <summary>Bound and verified on its node.</summary>
    Allocated,

    /// <summary>Deleted; its devices are on their way back to the host.</summary>
    Releasing,

    /// <summary>Can't be served as it is; the conditions say why.</summary>
    Failed,
}
