using System.Text.Json.Serialization;
using k8s;
using k8s.Models;
using PciOperator.Api;

namespace PciOperator.Cli.Vms;

/// <summary>
/// A virtual machine, as far as its devices and its start go. What is not named here is never in memory, nor in a support bundle: volumes
/// carry passwords and keys (cloud-init).
/// </summary>
[KubernetesEntity(Group = KubeVirtApi.Group, ApiVersion = "v1", Kind = "VirtualMachine", PluralName = "virtualmachines")]
internal sealed record VirtualMachine : IKubernetesObject<V1ObjectMeta>
{
    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();

    public VirtualMachineSpec? Spec { get; set; }

    public VirtualMachineStatus? Status { get; set; }
}

/// <summary>What a VM is to be.</summary>
internal sealed record VirtualMachineSpec
{
    /// <summary>The older way to say that it runs.</summary>
    public bool? Running { get; set; }

    /// <summary><c>Always</c>, <c>RerunOnFailure</c>, <c>Once</c>, <c>Manual</c>, <c>Halted</c>, …</summary>
    public string? RunStrategy { get; set; }

    public VirtualMachineTemplate? Template { get; set; }
}

/// <summary>What each start of a VM is made from.</summary>
internal sealed record VirtualMachineTemplate
{
    public GuestSpec? Spec { get; set; }
}

/// <summary>What KubeVirt says of a VM.</summary>
internal sealed record VirtualMachineStatus
{
    /// <summary>One word, as <c>kubectl get vm</c> shows it: <c>Running</c>, <c>ErrorUnschedulable</c>, …</summary>
    public string? PrintableStatus { get; set; }

    public IReadOnlyList<GuestCondition>? Conditions { get; set; }
}

/// <summary>A VM that is started, or was.</summary>
[KubernetesEntity(Group = KubeVirtApi.Group, ApiVersion = "v1", Kind = "VirtualMachineInstance", PluralName = "virtualmachineinstances")]
internal sealed record VirtualMachineInstance : IKubernetesObject<V1ObjectMeta>
{
    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();

    public GuestSpec? Spec { get; set; }

    public VirtualMachineInstanceStatus? Status { get; set; }
}

/// <summary>How far a VM's start is.</summary>
internal sealed record VirtualMachineInstanceStatus
{
    /// <summary><c>Pending</c>, <c>Scheduling</c>, <c>Scheduled</c>, <c>Running</c>, <c>Succeeded</c>, <c>Failed</c>.</summary>
    public string? Phase { get; set; }

    public string? Reason { get; set; }

    public string? NodeName { get; set; }

    public IReadOnlyList<GuestCondition>? Conditions { get; set; }
}

/// <summary>A condition of a VM, of its instance, or of its pod.</summary>
internal sealed record GuestCondition
{
    public string? Type { get; set; }

    public string? Status { get; set; }

    public string? Reason { get; set; }

    public string? Message { get; set; }
}

/// <summary>What a guest is to have.</summary>
internal sealed record GuestSpec
{
    /// <summary>The claims that its devices come from, as a pod's.</summary>
    public IReadOnlyList<GuestClaim>? ResourceClaims { get; set; }

    public GuestDomain? Domain { get; set; }

    /// <summary>Its entries for devices, GPUs first.</summary>
    [JsonIgnore]
    public IEnumerable<GuestDevice> Devices => Gpus.Concat(HostDevices);

    /// <summary>Its entries for GPUs.</summary>
    [JsonIgnore]
    public IEnumerable<GuestDevice> Gpus => (Domain?.Devices?.Gpus ?? []).OfType<GuestDevice>();

    /// <summary>Its entries for other devices.</summary>
    [JsonIgnore]
    public IEnumerable<GuestDevice> HostDevices => (Domain?.Devices?.HostDevices ?? []).OfType<GuestDevice>();

    /// <summary>Its entries for claims.</summary>
    [JsonIgnore]
    public IEnumerable<GuestClaim> Claims => (ResourceClaims ?? []).OfType<GuestClaim>();
}

/// <summary>A guest's hardware.</summary>
internal sealed record GuestDomain
{
    public GuestDevices? Devices { get; set; }
}

/// <summary>A guest's devices that are the host's.</summary>
internal sealed record GuestDevices
{
    public IReadOnlyList<GuestDevice>? Gpus { get; set; }

    public IReadOnlyList<GuestDevice>? HostDevices { get; set; }
}

/// <summary>One entry below <c>gpus</c> or <c>hostDevices</c>.</summary>
internal sealed record GuestDevice
{
    public string? Name { get; set; }

    /// <summary>An extended resource, by a device plugin.</summary>
    public string? DeviceName { get; set; }

    /// <summary>Whether that is a resource of ours: of one claim.</summary>
    [JsonIgnore]
    public bool IsByOurPlugin => DeviceName?.StartsWith(PciOperatorApi.Group + "/", StringComparison.Ordinal) == true;

    /// <summary>By DRA: the name of an entry of <c>resourceClaims</c>.</summary>
    public string? ClaimName { get; set; }

    /// <summary>By DRA: the claim's request.</summary>
    public string? RequestName { get; set; }
}

/// <summary>One entry of <c>resourceClaims</c>: a claim by name, or one that is made of a template.</summary>
internal sealed record GuestClaim
{
    public string? Name { get; set; }

    public string? ResourceClaimName { get; set; }

    public string? ResourceClaimTemplateName { get; set; }
}

/// <summary>How KubeVirt is set up.</summary>
[KubernetesEntity(Group = KubeVirtApi.Group, ApiVersion = "v1", Kind = "KubeVirt", PluralName = "kubevirts")]
internal sealed record KubeVirtSetup : IKubernetesObject<V1ObjectMeta>
{
    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();

    public KubeVirtSpec? Spec { get; set; }

    public KubeVirtStatus? Status { get; set; }
}

/// <summary>What KubeVirt is to be.</summary>
internal sealed record KubeVirtSpec
{
    public KubeVirtConfiguration? Configuration { get; set; }
}

/// <summary>KubeVirt's settings.</summary>
internal sealed record KubeVirtConfiguration
{
    public DeveloperConfiguration? DeveloperConfiguration { get; set; }

    /// <summary>What VMs may ask device plugins for; absent: anything.</summary>
    public PermittedDevices? PermittedHostDevices { get; set; }
}

/// <summary>What is switched on and off.</summary>
internal sealed record DeveloperConfiguration
{
    public IReadOnlyList<string>? FeatureGates { get; set; }

    public IReadOnlyList<string>? DisabledFeatureGates { get; set; }
}

/// <summary>What VMs may ask device plugins for.</summary>
internal sealed record PermittedDevices
{
    public IReadOnlyList<PermittedDevice>? PciHostDevices { get; set; }
}

/// <summary>One of them.</summary>
internal sealed record PermittedDevice
{
    public string? ResourceName { get; set; }
}

/// <summary>What KubeVirt is.</summary>
internal sealed record KubeVirtStatus
{
    /// <summary><c>v1.9.0</c>.</summary>
    public string? ObservedKubeVirtVersion { get; set; }
}

/// <summary>The pod that a VM runs in.</summary>
[KubernetesEntity(Group = "", ApiVersion = "v1", Kind = "Pod", PluralName = "pods")]
internal sealed record LauncherPod : IKubernetesObject<V1ObjectMeta>
{
    /// <summary>How KubeVirt marks them.</summary>
    public const string Selector = "kubevirt.io=virt-launcher";

    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();

    public LauncherSpec? Spec { get; set; }

    public LauncherStatus? Status { get; set; }
}

/// <summary>Where it is to run.</summary>
internal sealed record LauncherSpec
{
    public string? NodeName { get; set; }
}

/// <summary>How far it is.</summary>
internal sealed record LauncherStatus
{
    public string? Phase { get; set; }

    public IReadOnlyList<GuestCondition>? Conditions { get; set; }

    public IReadOnlyList<ContainerReport>? InitContainerStatuses { get; set; }

    public IReadOnlyList<ContainerReport>? ContainerStatuses { get; set; }

    /// <summary>The claims that were made of templates for it.</summary>
    public IReadOnlyList<MadeClaim>? ResourceClaimStatuses { get; set; }
}

/// <summary>A ResourceClaim that was made of a template.</summary>
internal sealed record MadeClaim
{
    /// <summary>The entry of <c>resourceClaims</c>.</summary>
    public string? Name { get; set; }

    public string? ResourceClaimName { get; set; }
}

/// <summary>What the kubelet says of a container.</summary>
internal sealed record ContainerReport
{
    public string? Name { get; set; }

    public ContainerState? State { get; set; }
}

/// <summary>One of both, or that it runs.</summary>
internal sealed record ContainerState
{
    public ContainerWords? Waiting { get; set; }

    public ContainerWords? Terminated { get; set; }
}

/// <summary>Why a container waits or ended.</summary>
internal sealed record ContainerWords
{
    public string? Reason { get; set; }

    public string? Message { get; set; }

    public int? ExitCode { get; set; }
}

/// <summary>What Kubernetes makes a ResourceClaim from for each pod.</summary>
[KubernetesEntity(Group = "resource.k8s.io", ApiVersion = "v1", Kind = "ResourceClaimTemplate", PluralName = "resourceclaimtemplates")]
internal sealed record ClaimTemplate : IKubernetesObject<V1ObjectMeta>
{
    public string? ApiVersion { get; set; }

    public string? Kind { get; set; }

    public V1ObjectMeta Metadata { get; set; } = new();

    public ClaimTemplateSpec? Spec { get; set; }
}

/// <summary>Around the claims' own spec.</summary>
internal sealed record ClaimTemplateSpec
{
    public ClaimTemplateContent? Spec { get; set; }
}

/// <summary>A claim's spec.</summary>
internal sealed record ClaimTemplateContent
{
    public TemplateDevices? Devices { get; set; }
}

/// <summary>What it asks for.</summary>
internal sealed record TemplateDevices
{
    public IReadOnlyList<TemplateRequest>? Requests { get; set; }
}

/// <summary>One request.</summary>
internal sealed record TemplateRequest
{
    public string? Name { get; set; }

    public TemplateRequestExactly? Exactly { get; set; }
}

/// <summary>Of which class.</summary>
internal sealed record TemplateRequestExactly
{
    public string? DeviceClassName { get; set; }
}

/// <summary>KubeVirt's API.</summary>
internal static class KubeVirtApi
{
    public const string Group = "kubevirt.io";

    /// <summary>The condition of a type.</summary>
    public static GuestCondition? Find(this IReadOnlyList<GuestCondition>? conditions, string type) =>
        conditions?.FirstOrDefault(c => c?.Type == type);
}

/// <summary>Source-generated JSON of KubeVirt's kinds, and of the parts of pods that are looked at here alone.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull
)]
[JsonSerializable(typeof(VirtualMachine))]
[JsonSerializable(typeof(VirtualMachineInstance))]
[JsonSerializable(typeof(KubeVirtSetup))]
[JsonSerializable(typeof(LauncherPod))]
[JsonSerializable(typeof(ClaimTemplate))]
[JsonSerializable(typeof(Cluster.AgentPod))]
internal sealed partial class KubeVirtJsonContext : JsonSerializerContext;
