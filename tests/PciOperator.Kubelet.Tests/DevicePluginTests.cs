using Grpc.Core;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Kubelet.Tests;

/// <summary>A pod gets the devices of a claim by an extended resource.</summary>
public sealed class DevicePluginTests
{
    private const string Resource = "pcioperator.io/lab.vm";

    [Fact]
    public async Task A_pod_gets_addresses_and_nodes_in_the_order_of_the_requests()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        AllocatedContainer container = await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2);
        Assert.Equal("0000:21:00.0,0000:22:00.0", container.Environment["PCI_RESOURCE_PCIOPERATOR_IO_LAB_VM"]);
        Assert.Contains(("/dev/vfio/vfio", "mrw"), container.Nodes);
        Assert.Contains(($"/dev/vfio/{lab.Kubelet.Simulated.Find(KubeletLab.X520)!.Group}", "mrw"), container.Nodes);
        Assert.Equal(container.Nodes.Distinct().Count(), container.Nodes.Count);
        await lab.Manager.StartContainerAsync("lab", "vm-1");
        await KubeletDouble.UntilAsync(() => lab.Status?.Pods.Count == 1, "nobody says who has it");
        Assert.Equal("lab/vm-1", lab.Status!.Pods.Single().ToString());
        lab.Manager.End("lab", "vm-1");
        await KubeletDouble.UntilAsync(() => lab.Status is { Pods.Count: 0 }, "the pod still has it");
    }

    [Fact]
    public async Task Companions_go_along_and_are_not_counted()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveCardAsync();
        await lab.Manager.WaitForAsync(Resource, 1);
        AllocatedContainer container = await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 1);
        Assert.Equal(KubeletLab.Gpu[0], container.Environment["PCI_RESOURCE_PCIOPERATOR_IO_LAB_VM"]);
        Assert.Equal(4, container.Nodes.Count(n => n.Path.StartsWith("/dev/vfio/devices/", StringComparison.Ordinal)));
        await lab.Manager.StartContainerAsync("lab", "vm-1");
    }

    [Fact]
    public async Task A_numa_node_is_named_when_it_is_known_and_no_topology_given_when_not()
    {
        await using Lab lab = await Lab.StartAsync();
        lab.Kubelet.Simulated.Change(KubeletLab.X520, f => f.Numa = -1);
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        Assert.Equal("0", lab.Manager.Devices(Resource)!["gpu-0"].Numa);
        Assert.Null(lab.Manager.Devices(Resource)!["gpu-1"].Numa);
    }

    [Fact]
    public async Task A_kubelet_that_restarts_and_wipes_its_folder_is_told_again_and_its_pods_start_again()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2);
        await lab.Manager.StopAsync();
        await KubeletDouble.UntilAsync(() => lab.Status is null, "the kubelet has gone, and still has it");
        await lab.Manager.StartAsync();
        await lab.Manager.WaitForAsync(Resource, 2);
        await lab.Manager.StartContainerAsync("lab", "vm-1");
    }

    [Fact]
    public async Task A_restarted_agent_is_known_to_the_kubelet_again()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2);
        await lab.Kubelet.RestartAgentAsync();
        await lab.Manager.WaitForAsync(Resource, 2);
        await lab.Manager.StartContainerAsync("lab", "vm-1");
        await KubeletDouble.UntilAsync(() => lab.Status?.Pods.Count == 1, "nobody says who has it");
    }

    [Fact]
    public async Task After_a_boot_that_numbers_the_nodes_anew_a_pod_does_not_start_with_the_old_ones()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2);
        await lab.Kubelet.RestartAgentAsync(reboot: true);
        lab.Kubelet.Simulated.Change(KubeletLab.Igb, f => f.Group += 100);
        await lab.Kubelet.BindAsync("vm", KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        await RefusedAsync(() => lab.Manager.StartContainerAsync("lab", "vm-1"), "make the pod anew");
        lab.Manager.End("lab", "vm-1");
        await lab.Manager.AdmitAsync("lab", "vm-2", Resource, 2);
        await lab.Manager.StartContainerAsync("lab", "vm-2");
    }

    [Fact]
    public async Task A_pod_of_another_namespace_does_not_start_and_is_reported()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        await lab.Manager.AdmitAsync("other", "thief", Resource, 1);
        await RefusedAsync(
            () => lab.Manager.StartContainerAsync("other", "thief"),
            "pod other/thief has pcioperator.io/lab.vm, which only pods of namespace lab may have"
        );
        Assert.Equal(["OtherNamespace"], lab.Kubelet.Node.Refusals.Select(r => r.Reason));
    }

    [Fact]
    public async Task Devices_that_are_not_bound_any_more_are_unhealthy_and_not_started()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2);
        lab.Kubelet.Simulated.Change(KubeletLab.Igb, f => f.Driver = "igb");
        await RefusedAsync(() => lab.Manager.StartContainerAsync("lab", "vm-1"), "0000:21:00.0 is on igb, not on a VFIO driver");
        await KubeletDouble.UntilAsync(() => lab.Manager.Devices(Resource)!["gpu-0"].Health == "Unhealthy", "it is healthy");
        Assert.Equal("Healthy", lab.Manager.Devices(Resource)!["gpu-1"].Health);
    }

    [Fact]
    public async Task A_withdrawn_claims_resource_goes_and_nothing_of_it_is_left()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2);
        lab.Kubelet.Node.Given!.Clear();
        await lab.Kubelet.Plugin.WithdrawAsync("u-vm", default);
        await KubeletDouble.UntilAsync(() => lab.Manager.Devices(Resource) is null or { Count: 0 }, "the kubelet still counts it");
        Assert.Null(lab.Status);
        Assert.Empty(lab.Kubelet.Simulated.FilesBelow($"{SimulatedHost.StateDirectory}/allocations"));
        Assert.Empty(Directory.EnumerateFiles(lab.Manager.Folder, "pcioperator.io-*"));
    }

    [Fact]
    public async Task What_is_not_known_for_a_moment_takes_no_resource_from_the_kubelet()
    {
        await using Lab lab = await Lab.StartAsync();
        await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
        await lab.Manager.WaitForAsync(Resource, 2);
        List<OfferedClaim>? given = lab.Kubelet.Node.Given;
        lab.Kubelet.Node.Given = null;
        lab.Kubelet.Plugin.NodeChanged();
        int asked = lab.Kubelet.Node.Asked;
        await KubeletDouble.UntilAsync(() => lab.Kubelet.Node.Asked > asked + 5, "nobody looks");
        Assert.True(File.Exists($"{lab.Manager.Folder}/pcioperator.io-u-vm.sock"));
        lab.Kubelet.Node.Given = given;
        await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2);
    }

    [Fact]
    public async Task A_claim_that_goes_by_dra_has_no_resource_and_what_dra_has_is_not_allocated()
    {
        await using Lab lab = await Lab.StartAsync();
        PodClaim claim = await lab.Kubelet.ClaimAsync("vm", KubeletLab.Igb);
        await lab.Kubelet.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        lab.Kubelet.Node.Given![0] = lab.Kubelet.Node.Given[0] with { ResourceName = Resource };
        lab.Kubelet.Plugin.NodeChanged();
        await lab.Manager.WaitForAsync(Resource, 1);
        await RefusedAsync(() => lab.Manager.AdmitAsync("lab", "vm-1", Resource, 1), "are handed out to ResourceClaim lab/vm already");
    }

    [Fact]
    public async Task Killed_before_and_after_the_write_of_an_allocation_the_next_agent_starts_what_the_kubelet_was_told_and_nothing_else()
    {
        foreach (bool before in new[] { true, false })
        {
            await using Lab lab = await Lab.StartAsync();
            await lab.GiveAsync(KubeletLab.Igb, KubeletLab.X520);
            await lab.Manager.WaitForAsync(Resource, 2);
            lab.Kubelet.Simulated.Fault = a =>
            {
                if (a.IsChange && a.Before == before)
                    lab.Kubelet.Simulated.CrashAgent();
            };
            await Assert.ThrowsAsync<RpcException>(() => lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2));
            lab.Kubelet.Simulated.Fault = null;
            await lab.Kubelet.RestartAgentAsync();
            await lab.Manager.WaitForAsync(Resource, 2);
            await lab.Manager.AdmitAsync("lab", "vm-1", Resource, 2);
            await lab.Manager.StartContainerAsync("lab", "vm-1");
        }
    }

    private static async Task RefusedAsync(Func<Task> call, string why)
    {
        RpcException refusal = await Assert.ThrowsAsync<RpcException>(call);
        Assert.Contains(why, refusal.Status.Detail, StringComparison.Ordinal);
    }

    /// <summary>A lab with both halves of a kubelet.</summary>
    private sealed class Lab : IAsyncDisposable
    {
        public required KubeletLab Kubelet { get; init; }

        public required DeviceManagerDouble Manager { get; init; }

        public ResourceStatus? Status => Kubelet.Plugin.Resources.GetValueOrDefault("u-vm");

        public static async Task<Lab> StartAsync()
        {
            KubeletLab kubelet = await KubeletLab.StartAsync();
            var manager = new DeviceManagerDouble(kubelet.Root, "/k");
            await manager.StartAsync();
            return new Lab { Kubelet = kubelet, Manager = manager };
        }

        /// <summary>Two devices that were asked for, as gpu-0 and gpu-1.</summary>
        public async Task GiveAsync(params string[] addresses)
        {
            OfferedClaim offer = Kubelet.Give("vm", addresses);
            Kubelet.Node.Given![0] = offer with
            {
                ResourceName = Resource,
                Devices = [.. offer.Devices.Select((d, i) => d with { Name = $"gpu-{i}", IsCompanion = false })],
            };
            await Kubelet.BindAsync("vm", addresses);
        }

        public async Task GiveCardAsync()
        {
            Kubelet.Node.Given!.Add(Kubelet.Give("vm", KubeletLab.Gpu) with { ResourceName = Resource });
            Kubelet.Node.Given.RemoveAt(0);
            await Kubelet.BindAsync("vm", KubeletLab.Gpu);
        }

        public async ValueTask DisposeAsync()
        {
            await Manager.DisposeAsync();
            await Kubelet.DisposeAsync();
        }
    }
}
