using System.Text.Json;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Testing;

namespace PciOperator.Vm.Tests;

/// <summary>
/// A claim's way to a container on a real kernel: offered, allocated as kube-scheduler does it, prepared as a kubelet asks for it, opened through
/// the device nodes that the container runtime is told of and no others.
/// </summary>
public sealed class DeliveryTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    private const string Cdi = "/var/run/cdi";

    public override async ValueTask DisposeAsync()
    {
        await Machine.RunAsync(
            "touch /run/pod-ended; kill -9 $(cat /run/kubelet.pid); umount /run/box/* /run/box/mnt/guest; rm -rf /run/box"
        );
        await base.DisposeAsync();
    }

    [ClusterFact]
    public async Task A_claim_reaches_a_container_and_again_after_the_power_was_cut()
    {
        await StartKubeletAsync();
        PassthroughClaim claim = await ClaimAsync("nic", BindingMode.Immediate);
        ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("nic")).Status!.Devices!);
        Resourcev1ResourceClaim resource = await AllocateAsync(claim);

        string node = await PrepareAsync(resource, device);
        await OpenAsync(node, device);
        // Once more, as after a restart of the kubelet: the same answer, and nothing changes.
        Assert.Equal(node, await PrepareAsync(resource, device));

        // Group numbers may be others after a boot: nothing of the last one is left to go by.
        string boot = (await Cluster.Client.GetAsync<PciNode>(Cluster.Node))!.Status!.BootId!;
        await Cluster.CutPowerAsync();
        await Cluster.WaitForAsync<PciNode>(
            Cluster.Node,
            null,
            n => n.Status?.BootId is { } now && now != boot && n.Status.Assignments?.Any(a => a.State == HoldingState.Prepared) == true
        );
        Assert.Equal("", await Machine.OutputOfAsync($"ls {Cdi} 2>/dev/null | grep pcioperator || true"));
        await StartKubeletAsync();
        device = Assert.Single((await Cluster.WaitUntilReadyAsync("nic")).Status!.Devices!);
        await OpenAsync(await PrepareAsync(resource, device), device);

        // While a pod has it, it is not given back.
        await Cluster.Client.DeleteAsync<PassthroughClaim>("nic", "default");
        await Cluster.WaitForClaimAsync(
            "nic",
            s => s.Phase == ClaimPhase.Releasing && s.Conditions!.Any(c => c.Message?.Contains("pod vm", StringComparison.Ordinal) == true)
        );
        Assert.Equal("vfio-pci", await Machine.DriverOfAsync(device.Address));
        await Machine.OutputOfAsync($"{GuestProgram} kubelet unprepare default nic {resource.Metadata.Uid}");
        Assert.Equal("", await Machine.OutputOfAsync($"ls {Cdi} | grep pcioperator || true"));
        await EndPodAsync("nic");
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }

    [ClusterFact]
    public async Task The_scheduler_waits_until_the_devices_of_the_node_that_it_took_are_bound()
    {
        await StartKubeletAsync();
        PassthroughClaim claim = await ClaimAsync("nic", BindingMode.WaitForFirstConsumer);
        await Cluster.WaitForClaimAsync("nic", s => s.Conditions.Find(Conditions.Ready) is { Status: "True", Reason: "Offered" });
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.Nic1));
        Resourcev1ResourceClaim resource = await AllocateAsync(claim);

        resource = await Cluster.WaitForAsync<Resourcev1ResourceClaim>(
            "nic",
            "default",
            r => r.Status?.Devices?.Any(d => d.Conditions?.Any(c => c.Type == DraNames.Bound && c.Status == "True") == true) == true
        );
        ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("nic")).Status!.Devices!);
        await AssertBoundAsync(device.Address, device.IommuGroup);
        await OpenAsync(await PrepareAsync(resource, device), device);

        // Without an orderly unprepare: what was written for the kubelet goes before the device goes home.
        await EndPodAsync("nic");
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
        Assert.Equal("", await Machine.OutputOfAsync($"ls {Cdi} | grep pcioperator || true"));
        Assert.Equal("", await Machine.OutputOfAsync($"{GuestProgram} kubelet unprepare default nic {resource.Metadata.Uid}"));
    }

    [ClusterFact]
    public async Task By_the_device_plugin_a_claim_reaches_one_pod_of_its_namespace_and_is_given_back_when_that_has_ended()
    {
        await ClaimAsync("nic", BindingMode.Immediate, Delivery.DevicePlugin);
        await Cluster.WaitForClaimAsync(
            "nic",
            s => s.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "ResourceNotRegistered" }
        );
        await Machine.OutputOfAsync(
            $"rm -f /run/pod-ended; setsid {GuestProgram} kubelet devices pcioperator.io/default.nic default vm > /run/kubelet.log 2>&1 & echo $! > /run/kubelet.pid"
        );
        PassthroughClaim claim = await Cluster.WaitUntilReadyAsync("nic");
        Assert.Equal("pcioperator.io/default.nic", claim.Status!.ResourceName);
        ClaimDevice device = Assert.Single(claim.Status.Devices!);
        await Cluster.WaitForClaimAsync(
            "nic",
            s =>
                s.Conditions.Find(Conditions.InUse) is { Status: "True" } use
                && use.Message.Contains("pod default/vm", StringComparison.Ordinal)
        );
        // The pod has the device from the moment it is allocated; its container starts when the plugin has looked once more.
        string[] given = await StartedAsync();
        Assert.Contains($"env PCI_RESOURCE_PCIOPERATOR_IO_DEFAULT_NIC={device.Address}", given);
        Assert.Contains("node /dev/vfio/vfio mrw", given);
        Assert.Contains($"node /dev/vfio/{device.IommuGroup} mrw", given);
        await OpenAsync($"/dev/vfio/{device.IommuGroup}", device);

        await Cluster.Client.DeleteAsync<PassthroughClaim>("nic", "default");
        await Cluster.WaitForClaimAsync(
            "nic",
            s =>
                s.Phase == ClaimPhase.Releasing
                && s.Conditions!.Any(c => c.Message?.Contains("pod default/vm", StringComparison.Ordinal) == true)
        );
        Assert.Equal("vfio-pci", await Machine.DriverOfAsync(device.Address));
        await Machine.OutputOfAsync("touch /run/pod-ended");
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }

    /// <summary>What the container got, once it has started.</summary>
    private async Task<string[]> StartedAsync()
    {
        for (DateTimeOffset began = DateTimeOffset.UtcNow; ; await Task.Delay(500))
        {
            string[] said = (await Machine.OutputOfAsync("cat /run/kubelet.log")).Split('\n');
            if (said[^1] == "started")
                return said;
            Assert.True(DateTimeOffset.UtcNow - began < TimeSpan.FromMinutes(1), string.Join('\n', said));
        }
    }

    private async Task StartKubeletAsync()
    {
        await Machine.OutputOfAsync($"mkdir -p /var/lib/kubelet/plugins_registry {Cdi}");
        for (DateTimeOffset began = DateTimeOffset.UtcNow; ; await Task.Delay(500))
        {
            CommandResult registered = await Machine.RunAsync($"{GuestProgram} kubelet register");
            if (registered.ExitCode == 0)
                return;
            Assert.True(DateTimeOffset.UtcNow - began < TimeSpan.FromMinutes(2), registered.Output);
        }
    }

    private async Task<PassthroughClaim> ClaimAsync(string name, BindingMode mode, Delivery delivery = Delivery.DRA)
    {
        await Cluster.OfferAsync(name, new() { Address = Topology.Nic1 }, Nic);
        return await Cluster.Client.CreateAsync(
            new PassthroughClaim
            {
                Metadata = new() { Name = name, NamespaceProperty = "default" },
                Spec = new()
                {
                    Requests = [new() { Name = "net", Alias = name }],
                    BindingMode = mode,
                    Delivery = delivery,
                },
            }
        );
    }

    /// <summary>What kube-scheduler writes for a pod: the allocation of what the claim's slice offers, and for whom.</summary>
    private async Task<Resourcev1ResourceClaim> AllocateAsync(PassthroughClaim claim)
    {
        V1ResourceSlice slice = (await Cluster.Client.ListAsync<V1ResourceSlice>()).Items.Single(s =>
            s.Spec.Pool.Name == DraNames.Pool(claim.Metadata.Uid!)
        );
        return await SchedulerWrites.AllocateAsync(Cluster.Client, slice, "default", claim.Metadata.Name!, Cluster.Node, "vm");
    }

    /// <summary>What is written when no pod has it any more.</summary>
    private async Task EndPodAsync(string name)
    {
        Assert.NotNull(await Cluster.Client.GetAsync<Resourcev1ResourceClaim>(name, "default"));
        await SchedulerWrites.DeallocateAsync(Cluster.Client, "default", name);
    }

    /// <summary>NodePrepareResources; the group's device node that the CDI file names, once the launcher's file has been read as well.</summary>
    private async Task<string> PrepareAsync(Resourcev1ResourceClaim resource, ClaimDevice device)
    {
        string answer = await Machine.OutputOfAsync($"{GuestProgram} kubelet prepare default nic {resource.Metadata.Uid}");
        string[] words = answer.Split(' ');
        Assert.Equal(("net", "net"), (words[0], words[1]));
        string files = await Machine.OutputOfAsync($"cat {Cdi}/*pcioperator*.json");
        List<JsonElement> edits = [];
        foreach (string line in files.Replace("}{", "}\n{", StringComparison.Ordinal).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            using var file = JsonDocument.Parse(line);
            string kind = file.RootElement.GetProperty("kind").GetString()!;
            edits.AddRange(
                file.RootElement.GetProperty("devices")
                    .EnumerateArray()
                    .Where(d => words.Contains($"{kind}={d.GetProperty("name").GetString()}"))
                    .Select(d => d.GetProperty("containerEdits").Clone())
            );
        }

        string metadata = edits
            .Where(e => e.TryGetProperty("mounts", out _))
            .SelectMany(e => e.GetProperty("mounts").EnumerateArray())
            .Single(m =>
                m.GetProperty("containerPath").GetString()
                == "/var/run/kubernetes.io/dra-device-attributes/resourceclaims/nic/net/pcioperator.io-metadata.json"
            )
            .GetProperty("hostPath")
            .GetString()!;
        using var read = JsonDocument.Parse(await Machine.OutputOfAsync($"cat {metadata}"));
        Assert.Equal(
            device.Address,
            read.RootElement.GetProperty("requests")[0]
                .GetProperty("devices")[0]
                .GetProperty("attributes")
                .GetProperty("resource.kubernetes.io/pciBusID")
                .GetProperty("string")
                .GetString()
        );
        string[] nodes =
        [
            .. edits
                .Where(e => e.TryGetProperty("deviceNodes", out _))
                .SelectMany(e => e.GetProperty("deviceNodes").EnumerateArray())
                .Select(n => n.GetProperty("path").GetString()!),
        ];
        Assert.Contains("/dev/vfio/vfio", nodes);
        return Assert.Single(
            nodes,
            n => n.StartsWith("/dev/vfio/", StringComparison.Ordinal) && n["/dev/vfio/".Length..].All(char.IsAsciiDigit)
        );
    }

    /// <summary>Opens a device from within a root that has those two device nodes and no others.</summary>
    private async Task OpenAsync(string node, ClaimDevice device)
    {
        await Machine.OutputOfAsync(
            $"""
            umount /run/box/* /run/box/mnt/guest 2>/dev/null; rm -rf /run/box; mkdir -p /run/box/dev/vfio /run/box/mnt/guest
            for d in lib lib64 usr sys proc bin; do [ ! -d /$d ] || (mkdir -p /run/box/$d && mount --bind /$d /run/box/$d); done
            mount --bind /mnt/guest /run/box/mnt/guest
            cp -a /dev/vfio/vfio {node} /run/box/dev/vfio/
            """
        );
        string seen = await Machine.OutputOfAsync($"chroot /run/box {GuestProgram} vfio {node["/dev/vfio/".Length..]} {device.Address}");
        Assert.StartsWith($"{device.Address} 8086:10c9 ", seen);
        Assert.EndsWith("\nDMA mapped", seen);
    }
}
