using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>A Node that is deleted and registered again, against the sandbox's API server with its garbage collector.</summary>
public sealed class SandboxNamesOutliveObjectsTests : NamesOutliveObjectsTests
{
    protected override bool Real => false;
}

/// <summary>The same against a real one.</summary>
[Turns(8)]
public sealed class RealNamesOutliveObjectsTests : NamesOutliveObjectsTests
{
    protected override bool Real => true;
}

/// <summary>
/// What has a name is not what had it before: Nodes, PciNodes, boots, an agent's memory; and what an agent or a claim's status says is not
/// yet so.
/// </summary>
public abstract class NamesOutliveObjectsTests
{
    private const string Node = "node-1";

    protected abstract bool Real { get; }

    [TurnFact]
    public async Task A_claim_on_a_Node_that_was_registered_again_goes_at_once_when_it_is_deleted()
    {
        await using LabCluster lab = await LabAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("disk");
        for (int i = 0; i < 15; i++)
        {
            long? before = (await PciNodeAsync(lab))!.Metadata.Generation;
            await lab.Client.PatchAsync<PciDeviceSpec>(
                "nvme-p4500",
                null,
                EntityPatch.Merge($$"""{"spec":{"tags":{"round":"{{i}}"} } }""")
            );
            await lab.UntilAsync("the rule to change", () => PciNodeAsync(lab), n => n.Metadata.Generation > before);
        }

        PciNode old = (await PciNodeAsync(lab))!;
        await lab.Client.DeleteAsync<V1Node>(Node);
        await AnotherAsync(lab, old);
        await lab.ReadyAsync("disk");
        Assert.True((await PciNodeAsync(lab))!.Metadata.Generation < old.Metadata.Generation);
        await lab.DeleteAsync("disk");
        await lab.GoneAsync("disk");
    }

    [TurnFact]
    public async Task A_Node_that_was_registered_again_without_a_controller_keeps_its_claims_and_takes_new_ones()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(Real, controller: false)).WithNodesAsync(1);
        Func<Task> stop = lab.Cluster.StartController();
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        string drive = (await lab.ReadyAsync("disk")).Status!.Devices![0].Address;
        PciNode old = (await PciNodeAsync(lab))!;
        await stop();

        // What the garbage collector does, where there is one.
        await lab.Client.DeleteAsync<V1Node>(Node);
        await lab.Client.DeleteAsync<PciNode>(Node);
        await lab.Cluster.Nodes[Node].Kubelet.RegisterAsync(LabHosts.Labels(1));
        lab.Cluster.StartController();

        PciNode now = await lab.UntilAsync(
            "a PciNode of the new Node, with the claim",
            () => PciNodeAsync(lab),
            n =>
                n.Metadata.Uid != old.Metadata.Uid
                && n.Spec is { Settling: null, Assignments: [{ Devices: [var device] }] }
                && device.Address == drive
        );
        Assert.Equal((await lab.Client.GetAsync<V1Node>(Node))!.Metadata.Uid, Assert.Single(now.Metadata.OwnerReferences!).Uid);
        Assert.Equal(drive, (await lab.ReadyAsync("disk")).Status!.Devices![0].Address);
        await lab.ClaimAsync("nic", "a1:1");
        await lab.ReadyAsync("nic");
    }

    [TurnFact]
    public async Task A_PciNode_whose_Node_was_registered_again_belongs_to_the_new_Node()
    {
        await using LabCluster lab = await LabAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("disk");
        PciNode old = (await PciNodeAsync(lab))!;
        string uid = (await lab.Client.GetAsync<V1Node>(Node))!.Metadata.Uid;
        await lab.Client.PatchAsync<PciNode>(
            Node,
            null,
            EntityPatch.Merge(
                $$$"""{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"{{{Node}}}","uid":"11111111-2222-3333-4444-555555555555"}]}}"""
            )
        );
        await lab.Client.PatchAsync<V1Node>(Node, null, EntityPatch.Merge("""{"metadata":{"labels":{"again":"yes"}}}"""));
        PciNode now = await lab.UntilAsync(
            "the owner to be right",
            () => PciNodeAsync(lab),
            n => n.Metadata.OwnerReferences is [var owner] && owner.Uid == uid
        );
        Assert.Equal(old.Metadata.Uid, now.Metadata.Uid);
        Assert.Single(now.Spec.Assignments!);
    }

    [TurnFact]
    public async Task A_claim_whose_VM_runs_keeps_its_devices_while_its_Node_is_deleted_and_registered_again()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(Real)).WithNodesAsync(2);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("router", "a1:1", s => s.NodeSelector = new Dictionary<string, string> { ["kubernetes.io/hostname"] = Node });
        PassthroughClaim claim = await lab.ReadyAsync("router");
        ClaimDevice device = Assert.Single(claim.Status!.Devices!);
        lab.Host(Node).StartProcess("qemu-system-x86", $"/dev/vfio/{device.IommuGroup}");
        PciNode old = (await PciNodeAsync(lab))!;

        await lab.Client.DeleteAsync<V1Node>(Node);
        claim = await lab.PendingAsync("router", "was deleted");
        Assert.Equal((Node, "Unknown"), (claim.Status!.NodeName, claim.Status.Conditions.Find(Conditions.Ready)!.Status));
        // What is to be said is said in the end, and not over and over.
        string version = "";
        await lab.UntilAsync(
            "half a second without a write",
            async () =>
            {
                await Task.Delay(500);
                return await lab.GetAsync("router");
            },
            c => version == (version = c.Metadata.ResourceVersion)
        );

        await AnotherAsync(lab, old);
        claim = await lab.ReadyAsync("router");
        Assert.Equal((Node, device.Address), (claim.Status!.NodeName, Assert.Single(claim.Status.Devices!).Address));
        Assert.Equal("vfio-pci", lab.Driver(Node, device.Address));
        await lab.NoDeviceHasTwoOwnersAsync();
    }

    [TurnFact]
    public async Task After_a_lost_state_folder_a_claim_is_not_Ready_and_is_not_moved()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(Real)).WithNodesAsync(2);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        PassthroughClaim claim = await lab.ReadyAsync("disk");
        (string node, string drive) = (claim.Status!.NodeName!, claim.Status.Devices![0].Address);
        await lab.Cluster.Nodes[node].StopAgentAsync();
        foreach (string file in lab.Host(node).FilesBelow(SimulatedHost.StateDirectory).Keys)
            lab.Host(node).RemoveFile(file);
        await lab.Cluster.Nodes[node].StartAgentAsync();

        claim = await lab.UntilAsync(
            "the claim not to be Ready",
            () => lab.GetAsync("disk"),
            c => c.Status!.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "ForeignVfioBinding" }
        );
        Assert.Contains("not moved", claim.Status!.Conditions.Find(Conditions.Ready)!.Message, StringComparison.Ordinal);
        Assert.Equal((node, drive), (claim.Status.NodeName, claim.Status.Devices![0].Address));
        Assert.Contains((await lab.Client.GetAsync<PciNode>(node))!.Spec.Assignments!, a => a.ClaimUid == claim.Metadata.Uid);
        Assert.Null(claim.Status.Refusals);

        // A person says that the machine is off.
        await lab.Client.PatchAsync<V1Node>(
            node,
            null,
            EntityPatch.Merge(
                """{"spec":{"taints":[{"key":"node.kubernetes.io/out-of-service","value":"nodeshutdown","effect":"NoExecute"}]}}"""
            )
        );
        await lab.UntilAsync(
            "the claim to be Ready elsewhere",
            () => lab.GetAsync("disk"),
            c => c.Status!.NodeName != node && c.Status.Conditions.IsTrue(Conditions.Ready)
        );
    }

    [TurnFact]
    public async Task What_a_claims_status_says_is_given_by_nobody_when_a_PciNode_is_made_again()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(Real, controller: false)).WithNodesAsync(1);
        Func<Task> stop = lab.Cluster.StartController();
        await lab.WithSamplesAsync();
        await lab.Client.PatchAsync<PciDeviceSpec>("nvme-p4500", null, EntityPatch.Merge("""{"spec":{"reset":"skip"}}"""));
        await lab.UntilAsync(
            "the rule to change",
            () => PciNodeAsync(lab),
            n => n.Spec.Rules!.Any(r => r is { Name: "nvme-p4500", Reset: ResetMode.Skip })
        );
        await lab.ClaimAsync("honest", "nvme:1");
        string drive = (await lab.ReadyAsync("honest")).Status!.Devices![0].Address;
        await lab.Client.DeleteAsync<PciDeviceSpec>("nvme-p4500");
        await lab.UntilAsync("the rule to go", () => PciNodeAsync(lab), n => n.Spec.Rules!.All(r => r.Name != "nvme-p4500"));
        await stop();

        string other = lab.Host(Node)
            .Functions.First(f =>
                f.Address != drive
                && f.Driver is not null
                && (PciNodeAsync(lab).GetAwaiter().GetResult()!.Status!.Devices ?? []).All(d => d.Address != f.Address)
            )
            .Address;
        await lab.ClaimAsync("forged", "a1:1");
        string? driver = lab.Driver(Node, other);
        PassthroughClaim forged = (await lab.GetAsync("forged"))!;
        await lab.Client.UpdateStatusAsync(
            forged with
            {
                Status = new PassthroughClaimStatus
                {
                    Phase = ClaimPhase.Allocated,
                    NodeName = Node,
                    Devices =
                    [
                        new ClaimDevice
                        {
                            Address = other,
                            VendorId = "8086",
                            ProductId = "1572",
                            Request = "r0",
                        },
                    ],
                },
            }
        );
        PciNode old = (await PciNodeAsync(lab))!;
        await lab.Client.DeleteAsync<PciNode>(Node);
        await lab.Client.PatchAsync<PciNode>(Node, null, EntityPatch.Merge("""{"metadata":{"finalizers":null}}"""));
        lab.Cluster.StartController();

        PciNode now = await lab.UntilAsync(
            "a settled PciNode",
            () => PciNodeAsync(lab),
            n => n.Metadata.Uid != old.Metadata.Uid && n.Spec.Settling != true && n.Spec.Assignments is { Count: > 0 }
        );
        Assert.DoesNotContain(now.Spec.Assignments!.SelectMany(a => a.Devices), d => d.Address == other);
        // The spec is gone, and the journal still knows how the drive is kept.
        Assert.Equal(ResetMode.Skip, now.Spec.Assignments!.SelectMany(a => a.Devices).Single(d => d.Address == drive).Reset);
        Assert.Equal(drive, (await lab.ReadyAsync("honest")).Status!.Devices![0].Address);
        Assert.NotEqual(other, (await lab.ReadyAsync("forged")).Status!.Devices![0].Address);
        Assert.Equal(driver, lab.Driver(Node, other));
    }

    [TurnFact]
    public async Task After_a_reboot_a_claim_is_not_Ready_until_the_agent_is_up_and_on_a_node_out_of_reach_nobody_knows()
    {
        await using LabCluster lab = await LabAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("disk");
        await lab.Cluster.Nodes[Node].StopAgentAsync();
        lab.Host(Node).Reboot();
        await SetNodeAsync(lab, $$$"""{"nodeInfo":{"bootID":"{{{lab.Host(Node).BootId}}}"}}""");
        await lab.UntilAsync(
            "the claim not to be Ready",
            () => lab.GetAsync("disk"),
            c => c.Status!.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "NodeRebooted" }
        );
        await lab.Cluster.Nodes[Node].StartAgentAsync();
        await lab.ReadyAsync("disk");

        await SetNodeAsync(lab, """{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}""");
        await lab.UntilAsync(
            "nobody to know",
            () => lab.GetAsync("disk"),
            c => c.Status!.Conditions.Find(Conditions.Ready) is { Status: "Unknown", Reason: "NodeUnreachable" }
        );
        await lab.Cluster.Nodes[Node].Kubelet.SetNodeReadyAsync(true);
        await lab.ReadyAsync("disk");

        await lab.Cluster.Nodes[Node].StopAgentAsync();
        await lab.DeleteAsync("disk");
        await lab.UntilAsync(
            "the release to say whom it waits for",
            () => lab.GetAsync("disk"),
            c => Message(c).Contains($"waits for the agent of node {Node}", StringComparison.Ordinal)
        );
        await SetNodeAsync(lab, """{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown"}]}""");
        await lab.UntilAsync(
            "the release to say whom it waits for",
            () => lab.GetAsync("disk"),
            c => Message(c).Contains($"waits for node {Node}, which can't be reached", StringComparison.Ordinal)
        );
        await lab.Cluster.Nodes[Node].StartAgentAsync();
        await lab.GoneAsync("disk");

        static string Message(PassthroughClaim claim) => claim.Status!.Conditions.Find(Conditions.Ready)!.Message;
    }

    [TurnFact]
    public async Task An_agent_is_believed_of_its_own_claims_alone()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(Real)).WithNodesAsync(2);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("disk", "nvme:1", s => s.NodeSelector = new Dictionary<string, string> { ["kubernetes.io/hostname"] = Node });
        PassthroughClaim claim = await lab.ReadyAsync("disk");
        await lab.Cluster.Nodes["node-2"].StopAgentAsync();
        await lab.Client.PatchAsync<PciNode>(
            "node-2",
            null,
            EntityPatch.Merge(
                $$$"""{"status":{"assignments":[{"claimUid":"{{{claim.Metadata.Uid}}}","state":"Releasing","reason":"InUse"}]}}"""
            ),
            "status"
        );
        await lab.DeleteAsync("disk");
        await lab.GoneAsync("disk");
    }

    [TurnFact]
    public async Task A_refusal_that_names_no_device_is_of_all_of_them_and_garbage_is_refused_by_the_schema()
    {
        await using LabCluster lab = await LabAsync();
        await lab.Cluster.Nodes[Node].StopAgentAsync();
        await lab.Cluster.Nodes[Node].Kubelet.SetAgentReadyAsync(true);
        await lab.ClaimAsync("disk", "nvme:1");
        PciNode node = await lab.UntilAsync("the assignment", () => PciNodeAsync(lab), n => n.Spec.Assignments is [_]);
        PciAssignment assignment = node.Spec.Assignments![0];

        foreach (
            string bad in (string[])
                [
                    """{"vendorId":"zzzz"}""",
                    """{"address":"0000:AB:00.0"}""",
                    """{"parentAddress":"x"}""",
                    """{"reason":null,"withheldBy":"not a word!"}""",
                ]
        )
        {
            System.Text.Json.Nodes.JsonObject device = System
                .Text.Json.Nodes.JsonNode.Parse("""{"address":"0000:7a:00.0","vendorId":"8086","productId":"0a54","type":"type-PCI"}""")!
                .AsObject();
            foreach (
                (string key, System.Text.Json.Nodes.JsonNode? value) in System.Text.Json.Nodes.JsonNode.Parse(bad)!.AsObject().ToList()
            )
            {
                device[key] = value?.DeepClone();
            }

            await Assert.ThrowsAsync<ApiException>(() =>
                lab.Client.PatchAsync<PciNode>(
                    Node,
                    null,
                    EntityPatch.Merge($$$"""{"status":{"devices":[{{{device.ToJsonString()}}}]}}"""),
                    "status"
                )
            );
        }

        await Assert.ThrowsAsync<ApiException>(() =>
            lab.Client.PatchAsync<PciNode>(
                Node,
                null,
                EntityPatch.Merge(
                    $$$"""{"status":{"assignments":[{"claimUid":"{{{assignment.ClaimUid}}}","state":"Rejected","reason":"not a reason!"}]}}"""
                ),
                "status"
            )
        );
        await lab.Client.PatchAsync<PciNode>(
            Node,
            null,
            EntityPatch.Merge(
                $$$"""{"status":{"observedGeneration":{{{node.Metadata.Generation}}},"assignments":[{"claimUid":"{{{assignment.ClaimUid}}}","state":"Rejected"}]}}"""
            ),
            "status"
        );
        PassthroughClaim claim = await lab.UntilAsync("the refusal", () => lab.GetAsync("disk"), c => c.Status?.Refusals is { Count: > 0 });
        Assert.Equal(assignment.Devices.Select(d => d.Address), claim.Status!.Refusals![0].Addresses);
    }

    [TurnFact]
    public async Task The_Nodes_condition_has_its_times_and_goes_with_the_last_spec()
    {
        await using LabCluster lab = await LabAsync();
        V1Node node = await lab.UntilAsync(
            "the condition",
            () => lab.Client.GetAsync<V1Node>(Node),
            n => Condition(n) is { Status: "True" }
        );
        Assert.NotNull(Condition(node)!.LastHeartbeatTime);
        Assert.NotNull(Condition(node)!.LastTransitionTime);
        foreach (PciDeviceSpec spec in (await lab.Client.ListAsync<PciDeviceSpec>()).Items)
            await lab.Client.DeleteAsync<PciDeviceSpec>(spec.Metadata.Name!);
        node = await lab.UntilAsync("the condition to go", () => lab.Client.GetAsync<V1Node>(Node), n => Condition(n) is null);
        Assert.Contains(node.Status!.Conditions!, c => c.Type == "Ready");

        static V1NodeCondition? Condition(V1Node node) =>
            node.Status?.Conditions?.FirstOrDefault(c => c.Type == PciOperatorApi.NodeConditionType);
    }

    private async Task<LabCluster> LabAsync() => await (await (await LabCluster.StartAsync(Real)).WithNodesAsync(1)).WithSamplesAsync();

    private static Task<PciNode?> PciNodeAsync(LabCluster lab) => lab.Client.GetAsync<PciNode>(Node);

    private static Task<V1Node> SetNodeAsync(LabCluster lab, string status) =>
        lab.Client.PatchAsync<V1Node>(Node, null, EntityPatch.Strategic($$$"""{"status":{{{status}}}}"""), "status");

    /// <summary>The Node is registered again when its PciNode has gone, and another is there.</summary>
    private static async Task AnotherAsync(LabCluster lab, PciNode old)
    {
        while (await PciNodeAsync(lab) is not null)
            await Task.Delay(20);
        await lab.Cluster.Nodes[Node].Kubelet.RegisterAsync(LabHosts.Labels(1));
        await lab.UntilAsync(
            "another PciNode",
            () => PciNodeAsync(lab),
            n => n.Metadata.Uid != old.Metadata.Uid && n.Status is not null && n.Spec.Settling != true
        );
    }
}

/// <summary>What of an agent's report can be meant.</summary>
public sealed class ReportsTests
{
    private static readonly PciNodeDevice Good = new()
    {
        Address = "0000:21:00.0",
        VendorId = "8086",
        ProductId = "0a54",
        IommuGroup = 3,
        Rule = "nvme",
        State = DeviceState.Available,
    };

    [TurnFact]
    public void A_device_that_can_not_be_meant_is_left_out_alone()
    {
        PciNodeDevice[] bad =
        [
            Good with
            {
                Address = "0000:AB:00.0",
            },
            Good with
            {
                Address = "0000:22:20.0",
            },
            Good with
            {
                Address = "00000022:00:00.0",
            },
            Good with
            {
                Address = "\u001b[2J",
            },
            Good with
            {
                Address = "",
            },
            Good with
            {
                Address = "0000:23:00.0",
                VendorId = "zzzz",
            },
            Good with
            {
                Address = "0000:24:00.0",
                ProductId = "8",
            },
            Good with
            {
                Address = "0000:25:00.0",
                ParentAddress = "x",
            },
            Good with
            {
                Address = "0000:26:00.0",
                SubsystemVendorId = "ZZ",
            },
            Good with
            {
                Address = "0000:27:00.0",
                NumaNode = -5,
            },
            Good,
        ];
        PciNode node = Node([Good, .. bad]);
        Assert.Equal(Good, Assert.Single(Reports.Readable(node).Status!.Devices!));

        var view = new ClusterView();
        view.SetNode("n", new V1Node { Metadata = new V1ObjectMeta { Name = "n" } });
        view.SetPciNode("n", node);
        Assert.Equal((1, 1), view.CountOfSpec("nvme"));
    }

    [TurnFact]
    public void Words_lose_their_control_characters_and_what_is_clean_is_not_copied()
    {
        PciNode node = Node([Good with { Reason = "a\u001b]0;b\n\u202ec" }]) with { };
        Assert.Equal("a ]0;b  c", Reports.Readable(node).Status!.Devices![0].Reason);
        PciNode clean = Node([Good]);
        Assert.Same(clean, Reports.Readable(clean));
    }

    [TurnFact]
    public void Refusals_of_a_status_that_names_no_addresses_stop_nobody()
    {
        var claim = new PassthroughClaim
        {
            Metadata = new V1ObjectMeta { Name = "c", Uid = "u" },
            Status = new PassthroughClaimStatus
            {
                Refusals =
                [
                    new ClaimRefusal
                    {
                        NodeName = "n",
                        Addresses = ["zzzz", "0000:21:00.0"],
                        Until = DateTimeOffset.UnixEpoch.AddMinutes(1),
                    },
                ],
            },
        };
        Assert.Equal(
            new DeviceExclusion("n", PciAddress.Parse("0000:21:00.0")),
            Assert.Single(claim.ToRequirements(_ => null, DateTimeOffset.UnixEpoch).Excluded)
        );
    }

    private static PciNode Node(IReadOnlyList<PciNodeDevice> devices) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = "n", Uid = "1" },
            Spec = new PciNodeSpec { Rules = [new PciNodeRule { Name = "nvme" }] },
            Status = new PciNodeStatus { Devices = devices },
        };
}
