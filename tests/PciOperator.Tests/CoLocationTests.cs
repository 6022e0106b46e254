using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;

namespace PciOperator.Tests;

/// <summary>Claims that coLocateWith ties together.</summary>
public sealed class CoLocationTests
{
    [Fact]
    public void Who_could_take_any_device_leaves_what_the_others_need()
    {
        ClusterView view = View("0a51", "0a52", "0a53");
        GroupDecision decision = view.Place([Claim(view, "a", "any"), Claim(view, "b", "0a51"), Claim(view, "c", "0a52")], null);
        Assert.Equal("node-1", decision.Node);
        Assert.Equal(
            ["0000:03:00.0", "0000:01:00.0", "0000:02:00.0"],
            decision.Allocations.Select(a => Assert.Single(a.Devices).Address.ToString())
        );
    }

    [Fact]
    public void What_is_refused_is_decided_once_for_the_whole_group_until_something_changes()
    {
        ClusterView view = View("0a51", "0a52", "0a53");
        ClaimToPlace[] claims = [Claim(view, "a", "any"), Claim(view, "b", "0a51"), Claim(view, "c", "0a51")];
        var summaries = Enumerable
            .Range(0, 3)
            .Select(i => view.Place([claims[i], .. claims.Where(c => c != claims[i])], null).Summary)
            .ToList();
        Assert.Equal(
            "0/1 nodes can serve the claims a, b, c together: 1 has too few free of alias 0a51 (1 of 2).",
            Assert.Single(summaries.Distinct())
        );
        Assert.Equal(1, view.Decisions);

        view.SetPciNode("node-1", ViewHosts.Node("node-1", "0a51", "0a51", "0a53"));
        Assert.Equal("node-1", view.Place(claims, null).Node);
    }

    [Fact]
    public async Task What_changes_while_a_decision_is_made_is_not_overlooked()
    {
        ClusterView view = View("0a51");
        ClaimToPlace claim = Claim(view, "a", "0a51");
        GroupDecision[] taken = await Task.WhenAll(
            Enumerable.Range(0, 8).Select(i => Task.Run(() => view.Place([Claim(view, $"c{i}", "0a51")], null)))
        );
        Assert.Single(taken, t => t.Node is not null);
        Assert.Null(view.Place([claim], null).Node);
    }

    [Fact]
    public async Task So_many_that_nobody_could_decide_them_are_refused_with_a_sentence_and_hold_up_nobody()
    {
        await using LabCluster lab = await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("t0", "a1:1", s => s.CoLocateWith = ["t269"]);
        await Task.WhenAll(Enumerable.Range(1, 269).Select(i => lab.ClaimAsync($"t{i}", "a1:1", s => s.CoLocateWith = [$"t{i - 1}"])));
        await lab.ClaimAsync("alone", "nvme:1");
        await lab.ReadyAsync("alone");
        foreach (string name in new[] { "t0", "t100", "t269" })
            await lab.PendingAsync(name, "at most 16");

        // The ring is cut to what can be decided, and is.
        for (int i = 2; i < 269; i++)
            await lab.DeleteAsync($"t{i}");
        await lab.PendingAsync("t269", "waits for claim t268");
        await lab.DeleteAsync("t269");
        await lab.DeleteAsync("t0");
        await lab.PendingAsync("t1", "waits for claim t0");
    }

    private static ClusterView View(params string[] products)
    {
        ClusterView view = ViewHosts.View();
        view.SetPciNode("node-1", ViewHosts.Node("node-1", products));
        return view;
    }

    private static ClaimToPlace Claim(ClusterView view, string name, string alias) => ViewHosts.ToPlace(view, ViewHosts.Claim(name, alias));
}

/// <summary>A view of one node with drives, for tests without a cluster.</summary>
internal static class ViewHosts
{
    /// <summary>A ready node-1 without devices, and aliases: one for each product, and any.</summary>
    public static ClusterView View()
    {
        var view = new ClusterView();
        view.SetNode("node-1", CoreNode());
        view.SetAgentReady("node-1", true);
        string[] products = ["0a51", "0a52", "0a53"];
        foreach (string product in products)
            view.SetAlias(product, Alias(product, product).ToDefinition());
        view.SetAlias("any", Alias("any", products).ToDefinition());
        return view;
    }

    /// <summary>Nodes on a server, each with the ready pod of an agent, and the drives that may be given away.</summary>
    public static async Task RegisterAsync(EntityClient client, int nodes)
    {
        for (int i = 1; i <= nodes; i++)
        {
            var kubelet = new SimulatedKubelet(client, $"node-{i}");
            await kubelet.RegisterAsync();
            await kubelet.SetAgentReadyAsync(true);
        }

        await client.CreateAsync(
            new PciDeviceSpec
            {
                Metadata = new V1ObjectMeta { Name = "drives" },
                Spec = new PciDeviceSpecSpec { Devices = [new DeviceSelectorSpec { VendorId = "8086" }] },
            }
        );
        foreach (string product in (string[])["0a51", "0a52"])
            await client.CreateAsync(ViewHosts.Alias("drive-" + product, product));
    }

    public static V1Node CoreNode(bool cordoned = false) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = "node-1", Uid = "n1" },
            Spec = new V1NodeSpec { Unschedulable = cordoned ? true : null },
            Status = new V1NodeStatus { Conditions = [new V1NodeCondition { Type = "Ready", Status = "True" }] },
        };

    public static PciAlias Alias(string name, params string[] products) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = name },
            Spec = new PciAliasSpec { Devices = [.. products.Select(p => new AliasDevice { VendorId = "8086", ProductId = p })] },
        };

    public static PciNode Node(string name, params string[] products) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = name, Uid = "p1" },
            Spec = new PciNodeSpec { Rules = [new PciNodeRule { Name = "drives" }] },
            Status = new PciNodeStatus
            {
                Conditions =
                [
                    new V1Condition
                    {
                        Type = Conditions.InventoryReady,
                        Status = "True",
                        Reason = "Scanned",
                        Message = "",
                    },
                ],
                Devices =
                [
                    .. products.Select(
                        (p, i) =>
                            new PciNodeDevice
                            {
                                Address = $"0000:{i + 1:x2}:00.0",
                                VendorId = "8086",
                                ProductId = p,
                                ClassCode = "010802",
                                IommuGroup = i,
                                Rule = "drives",
                                State = DeviceState.Available,
                            }
                    ),
                ],
            },
        };

    public static PassthroughClaim Claim(string name, string alias, int count = 1) =>
        new()
        {
            Metadata = new V1ObjectMeta
            {
                Name = name,
                NamespaceProperty = "default",
                Uid = name,
            },
            Spec = new PassthroughClaimSpec
            {
                Requests =
                [
                    new ClaimRequest
                    {
                        Name = "r",
                        Alias = alias,
                        Count = count,
                    },
                ],
            },
        };

    public static ClaimToPlace ToPlace(ClusterView view, PassthroughClaim claim) =>
        new(claim, claim.ToRequirements(view.Alias, DateTimeOffset.UtcNow));
}
