using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Diagnose;
using PciOperator.Cli.Vms;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;

namespace PciOperator.Cli.Tests;

/// <summary>
/// VMs that are well, and one thing after the other that goes wrong with them: each is told with its fix, and nothing else is. PCI_GOLDEN=1
/// writes the sentences.
/// </summary>
public sealed class VmDiagnosisTests
{
    private const string Start = "DoesNotStart";
    private const string Guest = "NotInGuest";

    private static readonly JsonSerializerOptions Json = EntityJson.OptionsWith(
        ResourceJsonContext.WithOwnKinds,
        KubeVirtJsonContext.Default
    );

    /// <summary>Three VMs that run: a GPU with its companion, two VFs, two drives by the device plugin; a pool's; and somebody else's.</summary>
    private const string Well = """
        {kind: KubeVirt, metadata: {name: kubevirt, namespace: kubevirt}, spec: {configuration: {developerConfiguration: {featureGates: [HostDevices]}, permittedHostDevices: {pciHostDevices: [{pciVendorSelector: "8086:0A54", resourceName: pcioperator.io/team.store, externalResourceProvider: true}]}}}, status: {observedKubeVirtVersion: v1.9.0}}
        ---
        {kind: PassthroughClaim, metadata: {name: vision, namespace: team}, spec: {requests: [{name: gpu, alias: nv}]}, status: {nodeName: node-1, devices: [{address: "0000:24:00.0", request: gpu, iommuGroup: 3}, {address: "0000:24:00.1", companion: true, iommuGroup: 3}], conditions: [{type: Ready, status: "True", message: can be used}, {type: InUse, status: "True", message: pod virt-launcher-vision-1}]}}
        ---
        {kind: PassthroughClaim, metadata: {name: router, namespace: team}, spec: {requests: [{name: nic, alias: a1, count: 2}]}, status: {nodeName: node-2, devices: [{address: "0000:21:10.0", request: nic}, {address: "0000:21:10.2", request: nic}], conditions: [{type: Ready, status: "True", message: can be used}, {type: InUse, status: "True", message: pod virt-launcher-router-1}]}}
        ---
        {kind: PassthroughClaim, metadata: {name: store, namespace: team}, spec: {delivery: DevicePlugin, requests: [{name: disk, alias: nvme, count: 2}]}, status: {nodeName: node-2, resourceName: pcioperator.io/team.store, devices: [{address: "0000:31:00.0", request: disk}, {address: "0000:32:00.0", request: disk}], conditions: [{type: Ready, status: "True", message: can be used}]}}
        ---
        {kind: ResourceClaim, metadata: {name: vision, namespace: team}, spec: {}, status: {reservedFor: [{resource: pods, name: virt-launcher-vision-1, uid: u1}]}}
        ---
        {kind: ResourceClaim, metadata: {name: router, namespace: team}, spec: {}, status: {reservedFor: [{resource: pods, name: virt-launcher-router-1, uid: u2}]}}
        ---
        {kind: ResourceClaim, metadata: {name: theirs, namespace: team}, spec: {}}
        ---
        {kind: ResourceClaimTemplate, metadata: {name: worker-nic, namespace: team}, spec: {spec: {devices: {requests: [{name: nic, exactly: {deviceClassName: pcioperator.io}}]}}}}
        ---
        {kind: ResourceClaimTemplate, metadata: {name: theirs, namespace: team}, spec: {spec: {devices: {requests: [{name: nic, exactly: {deviceClassName: gpu.example.com}}]}}}}
        ---
        {kind: VirtualMachine, metadata: {name: vision, namespace: team}, spec: {runStrategy: Always, template: {spec: {resourceClaims: [{name: card, resourceClaimName: vision}], domain: {devices: {gpus: [{name: gpu, claimName: card, requestName: gpu}]}}}}}, status: {printableStatus: Running, conditions: [{type: Ready, status: "True"}]}}
        ---
        {kind: VirtualMachineInstance, metadata: {name: vision, namespace: team}, spec: {resourceClaims: [{name: card, resourceClaimName: vision}], domain: {devices: {gpus: [{name: gpu, claimName: card, requestName: gpu}]}}}, status: {phase: Running, nodeName: node-1, conditions: [{type: Ready, status: "True"}]}}
        ---
        {kind: Pod, metadata: {name: virt-launcher-vision-1, namespace: team, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: vision, uid: v1}]}, spec: {nodeName: node-1}, status: {phase: Running, conditions: [{type: PodScheduled, status: "True"}], containerStatuses: [{name: compute, state: {running: {}}}]}}
        ---
        {kind: VirtualMachine, metadata: {name: router, namespace: team}, spec: {running: true, template: {spec: {resourceClaims: [{name: nics, resourceClaimName: router}], domain: {devices: {hostDevices: [{name: nic-0, claimName: nics, requestName: nic-0}, {name: nic-1, claimName: nics, requestName: nic-1}]}}}}}}
        ---
        {kind: VirtualMachineInstance, metadata: {name: router, namespace: team}, spec: {resourceClaims: [{name: nics, resourceClaimName: router}], domain: {devices: {hostDevices: [{name: nic-0, claimName: nics, requestName: nic-0}, {name: nic-1, claimName: nics, requestName: nic-1}]}}}, status: {phase: Running, nodeName: node-2}}
        ---
        {kind: Pod, metadata: {name: virt-launcher-router-1, namespace: team, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: router, uid: v2}]}, spec: {nodeName: node-2}, status: {phase: Running}}
        ---
        {kind: VirtualMachine, metadata: {name: store, namespace: team}, spec: {runStrategy: RerunOnFailure, template: {spec: {domain: {devices: {hostDevices: [{name: disk-0, deviceName: pcioperator.io/team.store}, {name: disk-1, deviceName: pcioperator.io/team.store}]}}}}}}
        ---
        {kind: VirtualMachineInstance, metadata: {name: store, namespace: team}, spec: {domain: {devices: {hostDevices: [{name: disk-0, deviceName: pcioperator.io/team.store}, {name: disk-1, deviceName: pcioperator.io/team.store}]}}}, status: {phase: Running, nodeName: node-2}}
        ---
        {kind: VirtualMachineInstance, metadata: {name: worker-x, namespace: team}, spec: {resourceClaims: [{name: nics, resourceClaimTemplateName: worker-nic}], domain: {devices: {hostDevices: [{name: nic, claimName: nics, requestName: nic}]}}}, status: {phase: Running, nodeName: node-1}}
        ---
        {kind: VirtualMachine, metadata: {name: stopped, namespace: team}, spec: {runStrategy: Halted, template: {spec: {resourceClaims: [{name: card, resourceClaimName: nowhere}]}}}, status: {printableStatus: Stopped}}
        ---
        {kind: VirtualMachine, metadata: {name: theirs, namespace: team}, spec: {runStrategy: Always, template: {spec: {resourceClaims: [{name: a, resourceClaimName: theirs}, {name: b, resourceClaimTemplateName: theirs}]}}}, status: {printableStatus: ErrorUnschedulable}}
        """;

    private const string NotRunning =
        """{"kind":"VirtualMachineInstance","name":"vision","patch":{"status":{"phase":"Scheduling","nodeName":""}}}""";

    /// <summary>A problem: what is changed of the objects that are well (JSON merge patches; null deletes), and the types of what is found.</summary>
    private static readonly (string Title, string[] Changes, string[] Found)[] Problems =
    [
        ("all is well", [], []),
        (
            "the claim's name has a slip",
            [Gone("vision"), Machine("vision", """{"resourceClaims":[{"name":"card","resourceClaimName":"visoin"}]}""")],
            [Start]
        ),
        (
            "the claim is in another namespace",
            [
                Gone("vision"),
                Machine("vision", """{"resourceClaims":[{"name":"card","resourceClaimName":"elsewhere"}]}"""),
                """{"kind":"PassthroughClaim","name":"elsewhere","patch":{"kind":"PassthroughClaim","metadata":{"name":"elsewhere","namespace":"other"},"spec":{"requests":[]}}}""",
            ],
            [Start]
        ),
        (
            "nobody made the claim",
            [Gone("vision"), Machine("vision", """{"resourceClaims":[{"name":"card","resourceClaimName":"something-else"}]}""")],
            [Start]
        ),
        (
            "the claim has no node",
            [
                NotRunning,
                Claim(
                    "vision",
                    """{"nodeName":null,"devices":null,"conditions":[{"type":"Scheduled","status":"False","message":"0/2 nodes can serve it: 2 have none free (1 wanted)"},{"type":"Ready","status":"False"}]}"""
                ),
                Pod("vision", "0/2 nodes are available: 2 cannot allocate all claims"),
            ],
            [Start]
        ),
        (
            "the claim is on a node and not ready",
            [
                NotRunning,
                Claim(
                    "vision",
                    """{"conditions":[{"type":"Scheduled","status":"True"},{"type":"Prepared","status":"False","message":"0000:24:00.0: a host process has the device open"},{"type":"Ready","status":"False"}]}"""
                ),
            ],
            [Start]
        ),
        (
            "the claim waits for its consumer, and no node fits",
            [
                NotRunning,
                """{"kind":"PassthroughClaim","name":"vision","patch":{"spec":{"bindingMode":"WaitForFirstConsumer"},"status":{"nodeName":null,"devices":null,"conditions":[{"type":"Scheduled","status":"False","message":"offered on 2 nodes: node-1, node-2"},{"type":"Ready","status":"True","reason":"Offered"}]}}}""",
                Pod("vision", "0/2 nodes are available: 2 Insufficient memory."),
            ],
            [Start]
        ),
        (
            "the claim is deleted",
            [
                NotRunning,
                """{"kind":"PassthroughClaim","name":"vision","patch":{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}}""",
            ],
            [Start]
        ),
        (
            "another VM has the claim",
            [
                NotRunning,
                """{"kind":"ResourceClaim","name":"vision","patch":{"status":{"reservedFor":[{"resource":"pods","name":"virt-launcher-router-1","uid":"u2"}]}}}""",
            ],
            [Start]
        ),
        ("no ResourceClaim comes of the claim", [NotRunning, """{"kind":"ResourceClaim","name":"vision","patch":null}"""], [Start]),
        (
            "the claim is delivered by the device plugin",
            [
                Gone("vision"),
                Machine(
                    "vision",
                    """{"resourceClaims":[{"name":"card","resourceClaimName":"store"}],"domain":{"devices":{"gpus":[{"name":"a","claimName":"card","requestName":"disk-0"},{"name":"b","claimName":"card","requestName":"disk-1"}]}}}"""
                ),
            ],
            [Start]
        ),
        ("the pod waits for a node", [NotRunning, Pod("vision", "0/2 nodes are available: 2 node(s) had untolerated taint(s).")], [Start]),
        (
            "the pod's image can't be pulled",
            [
                NotRunning,
                Container(
                    "vision",
                    """{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image registry.example.com/disk"}}"""
                ),
            ],
            [Start]
        ),
        (
            "the container runtime knows no CDI",
            [
                NotRunning,
                Container(
                    "vision",
                    """{"waiting":{"reason":"CreateContainerError","message":"CDI device injection failed: unresolvable CDI devices pcioperator.io/vfio=1"}}"""
                ),
            ],
            [Start]
        ),
        ("the container ends", [NotRunning, Container("vision", """{"terminated":{"exitCode":137,"reason":"OOMKilled"}}""")], [Start]),
        ("the container begins", [NotRunning, Container("vision", """{"waiting":{"reason":"ContainerCreating"}}""")], []),
        (
            "libvirt may not lock the guest's memory",
            [
                """{"kind":"VirtualMachineInstance","name":"vision","patch":{"status":{"phase":"Scheduled","conditions":[{"type":"Synchronized","status":"False","reason":"Synchronizing with the Domain failed.","message":"server error. command SyncVMI failed: \"LibvirtError(Code=38, Domain=0, Message='cannot limit locked memory of process 85 to 9126805504: Operation not permitted')\""}]}}}""",
            ],
            [Start]
        ),
        (
            "another guest has the group open",
            [
                """{"kind":"VirtualMachineInstance","name":"vision","patch":{"status":{"phase":"Scheduled","conditions":[{"type":"Synchronized","status":"False","message":"qemu: vfio 0000:24:00.0: failed to open /dev/vfio/3: Device or resource busy"}]}}}""",
            ],
            [Start]
        ),
        (
            "KubeVirt makes no instance",
            [
                Gone("vision"),
                """{"kind":"VirtualMachine","name":"vision","patch":{"status":{"printableStatus":"Stopped","conditions":[{"type":"Failure","status":"True","reason":"FailedCreate","message":"admission webhook denied the request: vmi references GPUs but HostDevices feature gate is not enabled"}]}}}""",
            ],
            [Start]
        ),
        (
            "KubeVirt has a word for it and no more",
            [Gone("vision"), """{"kind":"VirtualMachine","name":"vision","patch":{"status":{"printableStatus":"ErrorPvcNotFound"}}}"""],
            [Start]
        ),
        (
            "the instance has failed",
            ["""{"kind":"VirtualMachineInstance","name":"vision","patch":{"status":{"phase":"Failed","reason":"NodeUnresponsive"}}}"""],
            [Start]
        ),
        (
            "gates of KubeVirt 1.8 are off",
            [NotRunning, """{"kind":"KubeVirt","name":"kubevirt","patch":{"status":{"observedKubeVirtVersion":"v1.8.2"}}}"""],
            [Start]
        ),
        (
            "a gate of KubeVirt 1.9 is switched off",
            [
                NotRunning,
                """{"kind":"KubeVirt","name":"kubevirt","patch":{"spec":{"configuration":{"developerConfiguration":{"disabledFeatureGates":["GPUsWithDRA"]}}}}}""",
            ],
            [Start]
        ),
        (
            "HostDevices is off",
            [
                """{"kind":"VirtualMachineInstance","name":"router","patch":{"status":{"phase":"Pending"}}}""",
                """{"kind":"KubeVirt","name":"kubevirt","patch":{"spec":{"configuration":{"developerConfiguration":null}}}}""",
            ],
            [Start]
        ),
        (
            "KubeVirt is too old for DRA",
            [NotRunning, """{"kind":"KubeVirt","name":"kubevirt","patch":{"status":{"observedKubeVirtVersion":"v1.7.0"}}}"""],
            [Start]
        ),
        (
            "the resource is not permitted",
            [
                Gone("store"),
                """{"kind":"KubeVirt","name":"kubevirt","patch":{"spec":{"configuration":{"permittedHostDevices":{"pciHostDevices":[]}}}}}""",
            ],
            [Start]
        ),
        (
            "the resource's name has a slip",
            [
                Gone("store"),
                Machine("store", """{"domain":{"devices":{"hostDevices":[{"name":"a","deviceName":"pcioperator.io/team.stroe"}]}}}"""),
            ],
            [Start]
        ),
        (
            "the resource is another namespace's",
            [Gone("store"), """{"kind":"PassthroughClaim","name":"store","patch":{"metadata":{"namespace":"other"}}}"""],
            [Start]
        ),
        (
            "more entries than devices",
            [
                Gone("store"),
                Machine(
                    "store",
                    """{"domain":{"devices":{"hostDevices":[{"name":"a","deviceName":"pcioperator.io/team.store"},{"name":"b","deviceName":"pcioperator.io/team.store"},{"name":"c","deviceName":"pcioperator.io/team.store"}]}}}"""
                ),
            ],
            [Start]
        ),
        (
            "the template's name has a slip",
            [
                """{"kind":"VirtualMachineInstance","name":"worker-x","patch":{"spec":{"resourceClaims":[{"name":"nics","resourceClaimTemplateName":"worker-nics"}]},"status":{"phase":"Pending"}}}""",
            ],
            [Start]
        ),
        ("no entry uses the claim", [Machine("vision", """{"domain":{"devices":{"gpus":null}}}""")], [Guest]),
        (
            "an entry names no claim of the VM's",
            [
                Machine(
                    "vision",
                    """{"domain":{"devices":{"gpus":[{"name":"gpu","claimName":"vision","requestName":"gpu"},{"name":"gpu","claimName":"card","requestName":"gpu"}]}}}"""
                ),
            ],
            [Guest]
        ),
        (
            "an entry asks for a request that the claim doesn't have",
            [
                Both(
                    "router",
                    """{"domain":{"devices":{"hostDevices":[{"name":"nic-0","claimName":"nics","requestName":"nic-0"},{"name":"nic-1","claimName":"nics","requestName":"nic1"}]}}}"""
                ),
            ],
            [Guest]
        ),
        (
            "one of two devices has no entry",
            [Both("router", """{"domain":{"devices":{"hostDevices":[{"name":"nic-0","claimName":"nics","requestName":"nic-0"}]}}}""")],
            [Guest]
        ),
        (
            "fewer entries than devices",
            [Both("store", """{"domain":{"devices":{"hostDevices":[{"name":"a","deviceName":"pcioperator.io/team.store"}]}}}""")],
            [Guest]
        ),
        (
            "an entry came later",
            [
                """{"kind":"VirtualMachineInstance","name":"router","patch":{"spec":{"domain":{"devices":{"hostDevices":[{"name":"nic-0","claimName":"nics","requestName":"nic-0"}]}}}}}""",
                """{"kind":"VirtualMachine","name":"router","patch":{"status":{"conditions":[{"type":"RestartRequired","status":"True","message":"a non-live-updatable field was changed in the template spec"}]}}}""",
            ],
            [Guest]
        ),
        (
            "the claim is not in use by the VM that runs",
            [
                """{"kind":"ResourceClaim","name":"vision","patch":{"status":{"reservedFor":[{"resource":"pods","name":"other","uid":"u9"}]}}}""",
            ],
            [Guest]
        ),
        (
            "an instance by itself has no entry for its template's device",
            ["""{"kind":"VirtualMachineInstance","name":"worker-x","patch":{"spec":{"domain":null}}}"""],
            [Guest]
        ),
        (
            "of a claim without devices a VM may name what will come along",
            [
                NotRunning,
                Claim("vision", """{"nodeName":null,"devices":null,"conditions":null}"""),
                Machine(
                    "vision",
                    """{"domain":{"devices":{"gpus":[{"name":"gpu","claimName":"card","requestName":"gpu"},{"name":"audio","claimName":"card","requestName":"gpu-companion-0"}]}}}"""
                ),
            ],
            [Start]
        ),
    ];

    [Fact]
    public void Each_problem_is_told_with_its_fix_and_nothing_else_is()
    {
        var text = new StringBuilder();
        foreach ((string title, string[] changes, string[] wanted) in Problems)
        {
            Finding[] found = [.. VmDiagnosis.Of(Facts(changes), null)];
            Assert.True(
                wanted.SequenceEqual(found.Select(f => f.Type)),
                $"{title}: {string.Join(" | ", found.Select(f => $"{f.Where} {f.Type}: {f.Problem}"))}"
            );
            text.Append($"# {title}\n");
            foreach (Finding finding in found)
                text.Append($"{finding.Where}  {finding.Type}\n  problem  {finding.Problem}\n  fix      {finding.Fix}\n");
        }

        SandboxLab.Golden("diagnose-vms.txt", text.ToString());
    }

    [Fact]
    public void Only_the_VMs_of_a_node_are_looked_at_when_one_is_named()
    {
        VmFacts facts = Facts(
            """{"kind":"ResourceClaim","name":"vision","patch":{"status":{"reservedFor":null}}}""",
            """{"kind":"ResourceClaim","name":"router","patch":{"status":{"reservedFor":null}}}"""
        );
        Assert.Equal(2, VmDiagnosis.Of(facts, null).Count());
        Assert.Equal("vm team/vision", Assert.Single(VmDiagnosis.Of(facts, "node-1")).Where);
        Assert.Equal("vm team/router", Assert.Single(VmDiagnosis.Of(facts, "node-2")).Where);
        // One that has no node yet is where its claim is.
        VmFacts waiting = Facts(Gone("vision"), Claim("vision", """{"conditions":[{"type":"Ready","status":"False"}]}"""));
        Assert.Single(VmDiagnosis.Of(waiting, "node-1"));
        Assert.Empty(VmDiagnosis.Of(waiting, "node-2"));
    }

    [Fact]
    public void What_can_t_be_seen_is_not_taken_to_be_missing()
    {
        VmFacts facts = Facts(Gone("vision"), Machine("vision", """{"resourceClaims":[{"name":"card","resourceClaimName":"hidden"}]}"""));
        Assert.NotEmpty(VmDiagnosis.Of(facts, null));
        Assert.Empty(VmDiagnosis.Of(facts with { ResourceClaims = null, Templates = null, Setups = null }, null));
    }

    /// <summary>No schema of ours holds for them.</summary>
    [Theory]
    [InlineData(
        "VirtualMachine",
        "vision",
        """{"spec":{"template":{"spec":{"resourceClaims":[null],"domain":{"devices":{"gpus":[null,{}],"hostDevices":[null]}}}}},"status":{"conditions":[null]}}"""
    )]
    [InlineData("VirtualMachine", "vision", """{"spec":{"template":null,"runStrategy":"Always"}}""")]
    [InlineData("VirtualMachine", "vision", """{"spec":{"template":{"spec":{"resourceClaims":[{}],"domain":null}}}}""")]
    [InlineData("VirtualMachineInstance", "vision", """{"spec":null,"status":{"phase":"Running"}}""")]
    [InlineData("VirtualMachineInstance", "vision", """{"status":{"phase":"Failed","conditions":[null,{}]}}""")]
    [InlineData(
        "KubeVirt",
        "kubevirt",
        """{"spec":{"configuration":{"permittedHostDevices":{"pciHostDevices":[null]},"developerConfiguration":{"featureGates":[null]}}},"status":{"observedKubeVirtVersion":"v1"}}"""
    )]
    [InlineData("KubeVirt", "kubevirt", """{"spec":null,"status":{"observedKubeVirtVersion":"v99999999999.-1.x"}}""")]
    [InlineData("ResourceClaimTemplate", "worker-nic", """{"spec":{"spec":{"devices":{"requests":[null,{}]}}}}""")]
    [InlineData(
        "Pod",
        "virt-launcher-vision-1",
        """{"status":{"phase":"Pending","conditions":[null],"containerStatuses":[null,{},{"state":{"waiting":{},"terminated":{}}}],"resourceClaimStatuses":[null]}}"""
    )]
    [InlineData("PassthroughClaim", "vision", """{"status":null}""")]
    public void Odd_objects_are_looked_at_without_an_exception(string kind, string name, string patch)
    {
        foreach (string running in (string[])["""{"kind":"Pod","name":"virt-launcher-vision-1","patch":{}}""", NotRunning])
            Assert.NotNull(VmDiagnosis.Of(Facts(running, $$"""{"kind":"{{kind}}","name":"{{name}}","patch":{{patch}} }"""), null).ToList());
    }

    /// <summary>The VM has no instance and no pod.</summary>
    private static string Gone(string vm) => $$"""{"kind":"gone","name":"{{vm}}"}""";

    private static string Machine(string vm, string spec) =>
        $$$"""{"kind":"VirtualMachine","name":"{{{vm}}}","patch":{"spec":{"template":{"spec":{{{spec}}} } } } }""";

    /// <summary>The VM, and what runs of it.</summary>
    private static string Both(string vm, string spec) => $$"""{"kind":"both","name":"{{vm}}","patch":{{spec}} }""";

    private static string Claim(string name, string status) =>
        $$"""{"kind":"PassthroughClaim","name":"{{name}}","patch":{"status":{{status}} } }""";

    private static string Pod(string vm, string unschedulable) =>
        $$$"""{"kind":"Pod","name":"virt-launcher-{{{vm}}}-1","patch":{"spec":{"nodeName":null},"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"{{{unschedulable}}}"}]} } }""";

    private static string Container(string vm, string state) =>
        $$$"""{"kind":"Pod","name":"virt-launcher-{{{vm}}}-1","patch":{"status":{"phase":"Pending","containerStatuses":[{"name":"compute","state":{{{state}}} }]} } }""";

    private static VmFacts Facts(params string[] changes)
    {
        List<JsonObject> objects = [.. Manifests.Read(Well)];
        foreach (JsonNode change in changes.Select(c => JsonNode.Parse(c)!))
            Change(objects, change["kind"]!.GetValue<string>(), change["name"]!.GetValue<string>(), change["patch"]);
        T[] All<T>(string kind) => [.. objects.Where(o => Kind(o) == kind).Select(o => o.Deserialize(Json.TypeInfo<T>())!)];
        return new VmFacts
        {
            Guests = Vms.Guest.Of(
                All<VirtualMachine>("VirtualMachine"),
                All<VirtualMachineInstance>("VirtualMachineInstance"),
                All<LauncherPod>("Pod")
            ),
            Claims = All<PassthroughClaim>("PassthroughClaim"),
            Setups = All<KubeVirtSetup>("KubeVirt"),
            ResourceClaims = All<Resourcev1ResourceClaim>("ResourceClaim"),
            Templates = All<ClaimTemplate>("ResourceClaimTemplate"),
        };
    }

    private static void Change(List<JsonObject> objects, string kind, string name, JsonNode? patch)
    {
        if (kind == "gone")
        {
            objects.RemoveAll(o => Kind(o) == "VirtualMachineInstance" && Name(o) == name);
            objects.RemoveAll(o => Kind(o) == "Pod" && Name(o) == $"virt-launcher-{name}-1");
            return;
        }

        if (kind == "both")
        {
            Change(objects, "VirtualMachine", name, JsonNode.Parse($$"""{"spec":{"template":{"spec":{{patch!.ToJsonString()}} } } }"""));
            Change(objects, "VirtualMachineInstance", name, JsonNode.Parse($$"""{"spec":{{patch.ToJsonString()}} }"""));
            return;
        }

        JsonObject? found = objects.Find(o => Kind(o) == kind && Name(o) == name);
        if (found is null)
            objects.Add(patch!.DeepClone().AsObject());
        else if (patch is null)
            objects.Remove(found);
        else
            Merge(found, patch.AsObject());
    }

    /// <summary>A JSON merge patch (RFC 7396).</summary>
    private static void Merge(JsonObject target, JsonObject patch)
    {
        foreach ((string key, JsonNode? value) in patch)
        {
            if (value is null)
                target.Remove(key);
            else if (value is JsonObject inner && target[key] is JsonObject there)
                Merge(there, inner);
            else
                target[key] = value.DeepClone();
        }
    }

    private static string Kind(JsonObject o) => o["kind"]!.GetValue<string>();

    private static string Name(JsonObject o) => o["metadata"]!["name"]!.GetValue<string>();
}
