using System.Text;
using PciOperator.Api;
using PciOperator.Kubelet;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>From a claim to a container: the real controller and agent, a real API server's ResourceClaims, and a kubelet.</summary>
public sealed class KubeletTests
{
    private const string Node = "node-1";
    private const string Claims = "/apis/resource.k8s.io/v1/namespaces";

    [Fact]
    public async Task A_claims_device_reaches_a_container_and_is_taken_back_before_it_goes_home()
    {
        string root = Directory.CreateTempSubdirectory("k").FullName;
        await using var kubelet = new KubeletDouble(root, "/k");
        kubelet.Start();
        await using LabCluster lab = await (await LabCluster.StartAsync(real: true)).WithNodesAsync(1);
        Sandbox.Cluster.SimulatedNode node = lab.Cluster.Nodes[Node];
        await node.StopAgentAsync();
        node.Plugins = new KubeletOptions
        {
            Driver = DraNames.Driver,
            KubeletDirectory = "/k",
            StateDirectory = SimulatedHost.StateDirectory,
            SocketRoot = root,
        };
        await node.StartAgentAsync();
        await lab.WithSamplesAsync();
        await kubelet.WaitForPluginAsync(DraNames.Driver);
        await lab.ClaimAsync("router", "a1:1");
        PassthroughClaim claim = await lab.ReadyAsync("router");
        string address = claim.Status!.Devices![0].Address;

        // What controller and kube-scheduler make of it.
        PodClaim own = await AllocateAsync(
            lab,
            "default",
            claim,
            $$"""[{"apiVersion":"pcioperator.io/v1alpha1","kind":"PassthroughClaim","name":"router","uid":"{{claim.Metadata.Uid}}","controller":true}]"""
        );
        await lab.Client.SendRawAsync(
            HttpMethod.Post,
            "/api/v1/namespaces",
            """{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"other"}}"""u8.ToArray()
        );
        PodClaim forged = await AllocateAsync(lab, "other", claim, "[]");

        IReadOnlyDictionary<string, PreparedAnswer> answers = await kubelet.PrepareAsync(DraNames.Driver, own, forged);
        Assert.Contains("which only that namespace may use", answers[forged.Uid].Error, StringComparison.Ordinal);
        Assert.Equal("", answers[own.Uid].Error);
        var container = ContainerDouble.Make(node.Host.Files, answers[own.Uid].Devices.SelectMany(d => d.CdiIds));
        Assert.Equal(address, container.AddressOf("router", "r0"));
        PciNode said = await lab.UntilAsync(
            "the status to say so",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status?.Assignments?[0].Delivered == true
        );
        Assert.True(said.Status!.Conditions.IsTrue(Conditions.KubeletRegistered));
        Assert.Matches("^pci0000:[0-9a-f]{2}$", said.Status.Devices!.Single(d => d.Address == address).PcieRoot);

        var order = new List<string>();
        node.Host.Fault = a =>
        {
            bool isCdi =
                a is { Before: false, Operation: SimulatedOperation.Delete }
                && a.Path.StartsWith("/var/run/cdi/", StringComparison.Ordinal);
            if (isCdi || a is { Before: true, Operation: SimulatedOperation.Write })
                order.Add(isCdi ? "taken back" : "host");
        };
        await lab.DeleteAsync("router");
        await lab.GoneAsync("router");
        Assert.Equal(["taken back", "taken back"], order.Take(2));
        Assert.DoesNotContain("taken back", order.Skip(2));
        Assert.Empty(node.Host.FilesBelow("/var/run/cdi"));
        Assert.Empty(node.Host.FilesBelow("/k"));
        Assert.Equal("", await kubelet.EndPodAsync(DraNames.Driver, own));
        await node.StopAgentAsync();
        await kubelet.StopAsync();
        Directory.Delete(root, recursive: true);
    }

    private static async Task<PodClaim> AllocateAsync(LabCluster lab, string ns, PassthroughClaim claim, string owners)
    {
        string name = claim.Metadata.Name!;
        await lab.Client.SendRawAsync(
            HttpMethod.Post,
            $"{Claims}/{ns}/resourceclaims",
            Encoding.UTF8.GetBytes(
                $$$$$"""
                {"apiVersion":"resource.k8s.io/v1","kind":"ResourceClaim","metadata":{"name":"{{{{{name}}}}}","namespace":"{{{{{ns}}}}}","ownerReferences":{{{{{owners}}}}}},
                 "spec":{"devices":{"requests":[{"name":"r0","exactly":{"deviceClassName":"pcioperator.io","allocationMode":"ExactCount","count":1}}]}}}
                """
            )
        );
        using System.Text.Json.JsonDocument allocated = await lab.Client.SendRawAsync(
            HttpMethod.Patch,
            $"{Claims}/{ns}/resourceclaims/{name}/status",
            Encoding.UTF8.GetBytes(
                $$$$$"""{"status":{"allocation":{"devices":{"results":[{"request":"r0","driver":"pcioperator.io","pool":"{{{{{DraNames.Pool(claim.Metadata.Uid!)}}}}}","device":"r0"}]}}}}"""
            ),
            "application/merge-patch+json"
        );
        return new PodClaim(ns, name, allocated.RootElement.GetProperty("metadata").GetProperty("uid").GetString()!);
    }
}
