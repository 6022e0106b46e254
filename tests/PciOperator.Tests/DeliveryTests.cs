using System.Text;
using System.Text.Json.Nodes;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>How the controller hands claims on to pods, against a real API server.</summary>
[Turns(12)]
public sealed class DeliveryTests
{
    [TurnFact]
    public async Task A_bound_claim_is_offered_to_its_own_ResourceClaim_on_its_node_alone_and_stays_while_a_pod_has_it()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(2);
        await lab.ClaimAsync("vm", configure: s => s.NodeName = "node-2");
        PassthroughClaim claim = await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");

        V1ResourceSlice slice = (await lab.SliceAsync(claim))!;
        Assert.Equal(
            (DraNames.Driver, "claim-" + claim.Metadata.Uid, 1L, 1L),
            (slice.Spec.Driver, slice.Spec.Pool.Name, slice.Spec.Pool.Generation, slice.Spec.Pool.ResourceSliceCount)
        );
        Assert.Null(slice.Spec.NodeName);
        V1NodeSelectorRequirement where = Assert.Single(Assert.Single(slice.Spec.NodeSelector.NodeSelectorTerms).MatchFields);
        Assert.Equal(("metadata.name", "In", "node-2"), (where.Key, where.OperatorProperty, Assert.Single(where.Values)));
        V1Device device = Assert.Single(slice.Spec.Devices);
        Assert.Equal("gpu", device.Name);
        Assert.Equal(claim.Metadata.Uid, device.Attributes["claimUID"].StringValue);
        Assert.Equal("gpu", device.Attributes["request"].StringValue);
        Assert.Equal("0000:01:00.0", device.Attributes["resource.kubernetes.io/pciBusID"].StringValue);
        Assert.Null(device.BindingConditions);

        Resourcev1ResourceClaim resource = (await lab.ResourceAsync("vm"))!;
        V1OwnerReference owner = Assert.Single(resource.Metadata.OwnerReferences);
        Assert.Equal(("PassthroughClaim", "vm", claim.Metadata.Uid, true), (owner.Kind, owner.Name, owner.Uid, owner.Controller));
        V1DeviceRequest request = Assert.Single(resource.Spec.Devices.Requests);
        Assert.Equal(("gpu", DraNames.Driver, 1L), (request.Name, request.Exactly.DeviceClassName, request.Exactly.Count));
        await lab.SaysAsync("vm", Conditions.InUse, "False", "NotInUse");

        await lab.AllocateAsync("vm", "node-2", "launcher");
        claim = await lab.SaysAsync("vm", Conditions.InUse, "True", "Reserved");
        Assert.StartsWith("pod launcher. A VM with it can't be migrated live", claim.Status!.Conditions.Find(Conditions.InUse)!.Message);

        await lab.Client.DeleteAsync<PassthroughClaim>("vm", "default");
        claim = await lab.UntilAsync(
            "the claim to say for which pod it waits",
            () => lab.GetAsync("vm"),
            c => c.Status?.Phase == ClaimPhase.Releasing
        );
        Assert.Contains("waits for pod launcher", claim.Status!.Conditions.Find(Conditions.Ready)!.Message);
        Assert.NotNull(Assert.Single((await lab.Client.GetAsync<PciNode>("node-2"))!.Spec.Assignments!));
        await lab.DeallocateAsync("vm");
        await lab.GoneAsync<PassthroughClaim>("vm", "default");
        Assert.Null(await lab.SliceAsync(claim));
        Assert.Null(await lab.ResourceAsync("vm"));
        Assert.True((await lab.Client.GetAsync<PciNode>("node-2"))!.Spec.Assignments is not { Count: > 0 });
    }

    [TurnFact]
    public async Task Ready_is_said_only_when_the_kubelet_can_hand_the_devices_on()
    {
        bool registered = false;
        await using DeliveryLab lab = await DeliveryLab.StartAsync(1, l => l.Registered = _ => registered);
        await lab.ClaimAsync("vm");
        PassthroughClaim claim = await lab.SaysAsync("vm", Conditions.Ready, "False", "KubeletNotRegistered");
        Assert.True(claim.Status!.Conditions.IsTrue(Conditions.Prepared));
        Assert.Equal(ClaimPhase.Allocated, claim.Status.Phase);
        registered = true;
        await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");
    }

    [TurnFact]
    public async Task A_ResourceClaim_of_the_same_name_that_is_not_its_own_is_left_alone_and_named()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(1);
        await lab.Client.CreateAsync(
            new Resourcev1ResourceClaim
            {
                Metadata = new V1ObjectMeta { Name = "vm", NamespaceProperty = "default" },
                Spec = new V1ResourceClaimSpec(),
            }
        );
        await lab.ClaimAsync("vm");
        await lab.SaysAsync("vm", Conditions.Ready, "False", "ResourceClaimExists");
        await lab.Client.DeleteAsync<PassthroughClaim>("vm", "default");
        await lab.GoneAsync<PassthroughClaim>("vm", "default");
        Assert.NotNull(await lab.ResourceAsync("vm"));
    }

    [TurnFact]
    public async Task What_somebody_does_to_a_slice_or_ResourceClaim_is_put_right()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(1);
        await lab.ClaimAsync("vm");
        PassthroughClaim claim = await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");
        V1ResourceSlice slice = (await lab.SliceAsync(claim))!;
        slice.Spec.Devices[0].Attributes["claimUID"].StringValue = "another";
        await lab.Client.UpdateAsync(slice);
        slice = await lab.UntilAsync(
            "the slice to be put right",
            () => lab.SliceAsync(claim),
            s => s.Spec.Devices[0].Attributes["claimUID"].StringValue == claim.Metadata.Uid
        );
        Assert.Equal(2, slice.Spec.Pool.Generation);
        await lab.Client.DeleteAsync<V1ResourceSlice>(slice.Metadata.Name!);
        await lab.UntilAsync("the slice to be made again", () => lab.SliceAsync(claim), s => s.Metadata.Uid != slice.Metadata.Uid);

        Resourcev1ResourceClaim resource = (await lab.ResourceAsync("vm"))!;
        await lab.Client.DeleteAsync<Resourcev1ResourceClaim>("vm", "default");
        await lab.UntilAsync(
            "the ResourceClaim to be made again",
            () => lab.ResourceAsync("vm"),
            r => r.Metadata.Uid != resource.Metadata.Uid
        );

        // One whose claim is gone, or that is of none.
        slice = ResourceObjects.Open(ViewHosts.Claim("gone", "x"), ["gpu"], ["node-1"]);
        await lab.Client.CreateAsync(slice);
        await lab.GoneAsync<V1ResourceSlice>(slice.Metadata.Name!, null);
        await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");
    }

    [TurnFact]
    public async Task The_scheduler_takes_the_node_of_a_claim_that_waits_for_a_pod_and_the_devices_stay_there()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(3, l => l.Registered = n => n != "node-3");
        await lab.ClaimAsync("vm", configure: s => s.BindingMode = BindingMode.WaitForFirstConsumer);
        PassthroughClaim claim = await lab.SaysAsync("vm", Conditions.Ready, "True", "Offered");
        Assert.Equal(ClaimPhase.Pending, claim.Status!.Phase);
        Assert.False(claim.Status.Conditions.IsTrue(Conditions.Scheduled));
        V1ResourceSlice slice = await lab.UntilAsync(
            "both nodes to be offered",
            () => lab.SliceAsync(claim),
            s => ResourceObjects.Hostnames(s).Count == 2
        );
        Assert.Equal(["node-1", "node-2"], ResourceObjects.Hostnames(slice).Order());
        V1Device device = Assert.Single(slice.Spec.Devices);
        Assert.Equal(
            (true, DraNames.Bound, DraNames.Refused),
            (device.BindsToNode, Assert.Single(device.BindingConditions), Assert.Single(device.BindingFailureConditions))
        );

        await lab.AllocateAsync("vm", "node-2", "launcher");
        Resourcev1ResourceClaim resource = await lab.UntilAsync(
            "the answer",
            () => lab.ResourceAsync("vm"),
            r => r.Status?.Devices is { Count: > 0 }
        );
        V1AllocatedDeviceStatus answer = Assert.Single(resource.Status.Devices);
        V1Condition bound = Assert.Single(answer.Conditions);
        Assert.Equal((slice.Spec.Pool.Name, "gpu", DraNames.Bound, "True"), (answer.Pool, answer.Device, bound.Type, bound.Status));
        claim = await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");
        Assert.Equal("node-2", claim.Status!.NodeName);
        slice = (await lab.SliceAsync(claim))!;
        Assert.Empty(ResourceObjects.Hostnames(slice));
        Assert.Null(Assert.Single(slice.Spec.Devices).BindingConditions);
        Assert.True(slice.Spec.Pool.Generation >= 2);

        // The VM stops and starts: the same devices, and no answer is waited for.
        await lab.DeallocateAsync("vm");
        await lab.SaysAsync("vm", Conditions.InUse, "False", "NotInUse");
        await lab.AllocateAsync("vm", "node-2", "launcher-2");
        await lab.SaysAsync("vm", Conditions.InUse, "True", "Reserved");
    }

    [TurnFact]
    public async Task What_waits_for_a_pod_is_offered_as_soon_as_a_kubelet_can_hand_it_on()
    {
        bool registered = false;
        await using DeliveryLab lab = await DeliveryLab.StartAsync(1, l => l.Registered = _ => registered);
        await lab.ClaimAsync("vm", configure: s => s.BindingMode = BindingMode.WaitForFirstConsumer);
        await lab.UntilAsync(
            "the claim to say what it lacks",
            () => lab.GetAsync("vm"),
            c =>
                c.Status?.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "NoNodeFits" } said
                && said.Message.Contains("has a kubelet that does not know the agent's DRA plugin", StringComparison.Ordinal)
        );
        registered = true;
        await lab.SaysAsync("vm", Conditions.Ready, "True", "Offered");
    }

    [TurnFact]
    public async Task A_node_that_was_taken_and_refuses_is_no_longer_offered_before_the_scheduler_hears_it()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(
            2,
            l => l.Agent = (node, _) => node == "node-2" ? (HoldingState.Rejected, "GuardRefused") : (HoldingState.Prepared, null)
        );
        await lab.ClaimAsync("vm", configure: s => s.BindingMode = BindingMode.WaitForFirstConsumer);
        PassthroughClaim claim = await lab.SaysAsync("vm", Conditions.Ready, "True", "Offered");
        await lab.UntilAsync("both nodes to be offered", () => lab.SliceAsync(claim), s => ResourceObjects.Hostnames(s).Count == 2);
        await lab.AllocateAsync("vm", "node-2", "launcher");
        Resourcev1ResourceClaim resource = await lab.UntilAsync(
            "the refusal",
            () => lab.ResourceAsync("vm"),
            r => r.Status?.Devices is { Count: > 0 }
        );
        Assert.Equal(
            (DraNames.Refused, "True"),
            (Assert.Single(resource.Status.Devices[0].Conditions).Type, resource.Status.Devices[0].Conditions[0].Status)
        );
        Assert.Equal(["node-1"], ResourceObjects.Hostnames((await lab.SliceAsync(claim))!));

        await lab.DeallocateAsync("vm");
        await lab.AllocateAsync("vm", "node-1", "launcher");
        claim = await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");
        Assert.Equal("node-1", claim.Status!.NodeName);
    }

    [TurnFact]
    public async Task A_node_whose_agent_does_not_come_to_bind_is_given_up_in_time()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(
            2,
            l => l.Agent = (node, _) => node == "node-2" ? (HoldingState.Preparing, null) : (HoldingState.Prepared, null),
            o => o with { BindingTimeout = TimeSpan.FromSeconds(2) }
        );
        await lab.ClaimAsync("vm", configure: s => s.BindingMode = BindingMode.WaitForFirstConsumer);
        PassthroughClaim claim = await lab.SaysAsync("vm", Conditions.Ready, "True", "Offered");
        await lab.UntilAsync("both nodes to be offered", () => lab.SliceAsync(claim), s => ResourceObjects.Hostnames(s).Count == 2);
        await lab.AllocateAsync("vm", "node-2", "launcher");
        Resourcev1ResourceClaim resource = await lab.UntilAsync(
            "the refusal",
            () => lab.ResourceAsync("vm"),
            r => r.Status?.Devices is { Count: > 0 }
        );
        Assert.Equal(DraNames.Refused, Assert.Single(resource.Status.Devices[0].Conditions).Type);
        Assert.Equal(["node-1"], ResourceObjects.Hostnames((await lab.SliceAsync(claim))!));
    }

    [TurnFact]
    public async Task A_pod_that_fits_nowhere_is_named_with_the_schedulers_words()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(1);
        await lab.ClaimAsync("vm");
        await lab.SaysAsync("vm", Conditions.Ready, "True", "Ready");
        (
            await lab.Client.SendRawAsync(
                HttpMethod.Post,
                "/api/v1/namespaces/default/pods",
                System.Text.Encoding.UTF8.GetBytes(
                    """
                    {"apiVersion":"v1","kind":"Pod","metadata":{"name":"launcher","namespace":"default"},
                     "spec":{"resourceClaims":[{"name":"d","resourceClaimName":"vm"}],"containers":[{"name":"c","image":"i","resources":{"claims":[{"name":"d"}]}}]}}
                    """
                )
            )
        ).Dispose();
        (
            await lab.Client.SendRawAsync(
                HttpMethod.Patch,
                "/api/v1/namespaces/default/pods/launcher/status",
                System.Text.Encoding.UTF8.GetBytes(
                    """{"status":{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1 nodes are available: 1 Insufficient cpu."}]}}"""
                ),
                "application/merge-patch+json"
            )
        ).Dispose();
        PassthroughClaim claim = await lab.SaysAsync("vm", Conditions.InUse, "False", "PodUnschedulable");
        string said = claim.Status!.Conditions.Find(Conditions.InUse)!.Message;
        Assert.StartsWith("pod launcher can't be scheduled: 0/1 nodes are available: 1 Insufficient cpu.", said);
        Assert.Contains("on node node-1: make room there", said);
    }

    [TurnFact]
    public async Task A_claim_by_device_plugin_is_ready_when_the_kubelet_has_its_resource_and_waits_for_the_pods_that_have_it()
    {
        string[] pods = [];
        bool taken = false;
        await using DeliveryLab lab = await DeliveryLab.StartAsync(1, l => l.Plugin = a => (taken ? a.ResourceName : null, pods));
        await lab.ClaimAsync("vm.a", configure: s => s.Delivery = Delivery.DevicePlugin);
        PassthroughClaim claim = await lab.SaysAsync("vm.a", Conditions.Ready, "False", "ResourceNotRegistered");
        Assert.Equal("pcioperator.io/default.vm.a", claim.Status!.ResourceName);
        Assert.Null(await lab.ResourceAsync("vm.a"));
        Assert.Null(await lab.SliceAsync(claim));
        taken = true;
        pods = ["default/launcher"];
        await lab.SaysAsync("vm.a", Conditions.Ready, "True", "Ready");
        await lab.SaysAsync("vm.a", Conditions.InUse, "True", "Reserved");
        await lab.Client.DeleteAsync<PassthroughClaim>("vm.a", "default");
        claim = await lab.UntilAsync("the claim to wait", () => lab.GetAsync("vm.a"), c => c.Status?.Phase == ClaimPhase.Releasing);
        Assert.Contains("waits for pod default/launcher", claim.Status!.Conditions.Find(Conditions.Ready)!.Message);
        pods = [];
        await lab.GoneAsync<PassthroughClaim>("vm.a", "default");
    }

    [TurnFact]
    public async Task Pods_of_a_template_get_claims_of_their_own_whichever_offer_the_scheduler_takes_and_they_go_with_them()
    {
        await using DeliveryLab lab = await DeliveryLab.StartAsync(2);
        Resourcev1ResourceClaim a = await lab.FromTemplateAsync("pool-a");
        Resourcev1ResourceClaim b = await lab.FromTemplateAsync("pool-b");
        PassthroughClaim claimA = await lab.SaysAsync("pool-a", Conditions.Ready, "True", "Offered");
        PassthroughClaim claimB = await lab.SaysAsync("pool-b", Conditions.Ready, "True", "Offered");
        foreach (PassthroughClaim claim in new[] { claimA, claimB })
        {
            V1Device device = Assert.Single((await lab.SliceAsync(claim))!.Spec.Devices);
            Assert.Equal(
                ("default", "pool", "gpu"),
                (
                    device.Attributes["namespace"].StringValue,
                    device.Attributes["template"].StringValue,
                    device.Attributes["request"].StringValue
                )
            );
        }

        // The offers are alike: a's pod is given b's.
        await lab.AllocateAsync(claimB, "pool-a", "node-2", "pod-a");
        PciNode node = await lab.UntilAsync(
            "the devices to be given away",
            () => lab.Client.GetAsync<PciNode>("node-2"),
            n => n.Spec.Assignments is [_]
        );
        Assert.Equal(
            (claimB.Metadata.Uid, a.Metadata.Uid),
            (node.Spec.Assignments![0].ClaimUid, node.Spec.Assignments[0].ResourceClaimUid)
        );
        claimB = await lab.SaysAsync("pool-b", Conditions.InUse, "True", "Reserved");
        Assert.StartsWith("pod pod-a. ", claimB.Status!.Conditions.Find(Conditions.InUse)!.Message);
        Assert.Equal("pool-a", TemplateClaim.OwnerOf(claimB)!.Name);
        claimA = await lab.UntilAsync(
            "the other claim to stand behind b",
            () => lab.GetAsync("pool-a"),
            c => TemplateClaim.OwnerOf(c)?.Name == "pool-b"
        );
        await lab.UntilAsync(
            "the slice to be for nobody else",
            () => lab.SliceAsync(claimB),
            slice => !Assert.Single(slice.Spec.Devices).Attributes.ContainsKey("template")
        );

        // What comes of a ResourceClaim goes with it, and nothing else.
        await lab.DeallocateAsync("pool-a");
        await lab.Client.DeleteAsync<Resourcev1ResourceClaim>("pool-a", "default");
        await lab.GoneAsync<PassthroughClaim>("pool-b", "default");
        await lab.SaysAsync("pool-a", Conditions.Ready, "True", "Offered");
        await lab.AllocateAsync(claimA, "pool-b", "node-1", "pod-b");
        await lab.SaysAsync("pool-a", Conditions.InUse, "True", "Reserved");
        Assert.Equal(b.Metadata.Uid, Assert.Single((await lab.Client.GetAsync<PciNode>("node-1"))!.Spec.Assignments!).ResourceClaimUid);
    }

    [TurnFact]
    public async Task Where_the_server_drops_binding_conditions_a_claim_that_waits_for_a_pod_says_so_and_others_work()
    {
        int offers = 0;
        await using DeliveryLab lab = await DeliveryLab.StartAsync(1, wrap: inner => new WithoutBinding(inner, () => offers++));
        await lab.ClaimAsync("vm", configure: s => s.BindingMode = BindingMode.WaitForFirstConsumer);
        PassthroughClaim claim = await lab.SaysAsync("vm", Conditions.Ready, "False", "NoBindingConditions");
        Assert.Contains("bindingMode Immediate does without", claim.Status!.Conditions.Find(Conditions.Ready)!.Message);
        await lab.GoneAsync<V1ResourceSlice>(ResourceObjects.SliceName(claim.Metadata.Uid!), null);
        await lab.ClaimAsync("now");
        await lab.SaysAsync("now", Conditions.Ready, "True", "Ready");
        Assert.Equal(1, offers);
    }

    /// <summary>A server without the gate: what it does not know of an object is dropped as it is stored.</summary>
    private sealed class WithoutBinding(HttpMessageHandler inner, Action offered) : DelegatingHandler(inner)
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (request.Content is { } content && request.RequestUri!.AbsolutePath.Contains("/resourceslices", StringComparison.Ordinal))
            {
                JsonNode slice = JsonNode.Parse(await content.ReadAsStringAsync(cancellationToken))!;
                foreach (JsonObject device in (slice["spec"]?["devices"] as JsonArray ?? []).OfType<JsonObject>())
                {
                    if (device.Remove("bindingConditions"))
                        offered();
                    device.Remove("bindsToNode");
                    device.Remove("bindingFailureConditions");
                }

                request.Content = new StringContent(slice.ToJsonString(), Encoding.UTF8, "application/json");
            }

            return await base.SendAsync(request, cancellationToken);
        }
    }
}
