using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>What the host uses is not taken from it, and a device that a process has open is waited for.</summary>
public sealed class GuardTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    private static readonly AliasDevice Nvme = Function("1b36", "0010", DeviceType.Pf);

    [ClusterFact]
    public async Task An_NVMe_goes_and_its_namespace_is_there_again_at_its_release()
    {
        await Cluster.OfferAsync("nvme", new() { Address = Topology.Nvme }, Nvme);
        await Machine.OutputOfAsync("test -b /dev/nvme0n1");
        await Cluster.ClaimAsync("nvme", "nvme");
        ClaimDevice device = Assert.Single((await Cluster.WaitUntilReadyAsync("nvme")).Status!.Devices!);
        Assert.Equal(0, device.NumaNode);
        await AssertBoundAsync(Topology.Nvme, device.IommuGroup);
        await Machine.OutputOfAsync("test ! -e /dev/nvme0n1");

        await Cluster.ReleaseAsync("nvme");
        await AssertGivenBackAsync(Topology.Nvme, "nvme");
        await Machine.WaitUntilAsync("[ -b /dev/nvme0n1 ]");
    }

    [ClusterFact]
    public async Task An_NVMe_with_a_mounted_file_system_is_refused_with_the_place_where_it_is_mounted()
    {
        await Cluster.OfferAsync("nvme", new() { Address = Topology.Nvme }, Nvme);
        await Cluster.WaitForDeviceAsync(Topology.Nvme, device => device.State == DeviceState.Available);
        // No uevent tells of a mount: it is seen when a claim is about to get the device.
        await Machine.OutputOfAsync("mkdir -p /mnt/disk && mount /dev/nvme0n1 /mnt/disk");
        await Cluster.ClaimAsync("too-early", "nvme");
        await ToldOnPciNodeAsync("/mnt/disk");
        Assert.DoesNotContain("/mnt/disk", await RefusalOfAsync("too-early"));
        await Cluster.WaitForUnavailableAsync(Topology.Nvme, "/mnt/disk");
        Assert.Equal("nvme", await Machine.DriverOfAsync(Topology.Nvme));

        await Cluster.ReleaseAsync("too-early");
        await Machine.OutputOfAsync("umount /mnt/disk && echo change > /sys/class/block/nvme0n1/uevent");
        await Cluster.ClaimAsync("nvme", "nvme");
        await Cluster.WaitUntilReadyAsync("nvme");
    }

    [ClusterFact]
    public async Task An_NVMe_that_is_mounted_in_another_mount_namespace_is_refused()
    {
        await Machine.OutputOfAsync(
            "mkdir -p /mnt/disk; setsid unshare -m sh -c 'mount /dev/nvme0n1 /mnt/disk && touch /run/mounted && exec sleep 1000' > /dev/null 2>&1 & echo $! > /run/holder.pid"
        );
        await Machine.WaitUntilAsync("[ -e /run/mounted ]");
        await Machine.OutputOfAsync("rm /run/mounted; ! grep -q /mnt/disk /proc/1/mountinfo");
        await Cluster.OfferAsync("nvme", new() { Address = Topology.Nvme }, Nvme);
        await Cluster.ClaimAsync("nvme", "nvme");
        await ToldOnPciNodeAsync("nvme0n1");
        await RefusalOfAsync("nvme");
        Assert.Equal("nvme", await Machine.DriverOfAsync(Topology.Nvme));
    }

    [ClusterFact]
    public async Task A_NIC_whose_interface_is_in_another_network_namespace_is_refused()
    {
        string nic = await Machine.OutputOfAsync($"ls /sys/bus/pci/devices/{Topology.Nic1}/net");
        await Machine.OutputOfAsync("setsid unshare -n sleep 1000 > /dev/null 2>&1 & echo $! > /run/holder.pid");
        await Machine.WaitUntilAsync($"ip link set {nic} netns $(cat /run/holder.pid) && [ ! -e /sys/class/net/{nic} ]");
        await Cluster.OfferAsync("nic", new() { Address = Topology.Nic1 }, Nic);
        await Cluster.ClaimAsync("nic", "nic");
        await Cluster.WaitForUnavailableAsync(Topology.Nic1, "network namespace");
        await RefusalOfAsync("nic");
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.Nic1));

        // Its namespace ends, and it is the host's again: a uevent says so.
        await LetGoAsync();
        await Cluster.WaitUntilReadyAsync("nic");
    }

    [ClusterFact]
    public async Task A_group_that_a_process_has_open_is_refused_with_the_process()
    {
        // An administrator's own binding, and a program that uses it.
        await Machine.OutputOfAsync(
            $"""
            echo vfio-pci > /sys/bus/pci/devices/{Topology.Nic1}/driver_override
            echo {Topology.Nic1} > /sys/bus/pci/drivers/igb/unbind
            echo {Topology.Nic1} > /sys/bus/pci/drivers_probe
            """
        );
        try
        {
            string group = await Machine.IommuGroupOfAsync(Topology.Nic1);
            string pid = await HoldOpenAsync("hold", group, Topology.Nic1);
            await Cluster.OfferAsync("nic", new() { Address = Topology.Nic1 }, Nic, more: spec => spec.Managed = false);
            await Cluster.ClaimAsync("nic", "nic");
            Assert.Contains($"/dev/vfio/{group}", await ToldOnPciNodeAsync($"process {pid} "));

            await LetGoAsync();
            await Cluster.ReleaseAsync("nic");
            await Cluster.ClaimAsync("later", "nic");
            await Cluster.WaitUntilReadyAsync("later");
            await Cluster.ReleaseAsync("later");
            Assert.Equal("vfio-pci", await Machine.DriverOfAsync(Topology.Nic1)); // managed: false: it stays as the administrator had it
        }
        finally
        {
            await LetGoAsync();
            await Machine.OutputOfAsync(
                $"""
                echo > /sys/bus/pci/devices/{Topology.Nic1}/driver_override
                echo {Topology.Nic1} > /sys/bus/pci/drivers/vfio-pci/unbind
                echo {Topology.Nic1} > /sys/bus/pci/drivers_probe
                """
            );
        }
    }

    [ClusterFact]
    public async Task A_release_waits_for_the_process_that_has_the_group_open_and_names_it()
    {
        ClaimDevice device = await ClaimNicAsync("nic");
        string pid = await HoldOpenAsync("hold", device.IommuGroup.ToString(), device.Address);
        await Cluster.Client.DeleteAsync<PassthroughClaim>("nic", "default");
        AssignmentStatus waiting = await Cluster.WaitForAssignmentAsync(
            "nic",
            assignment => assignment is { State: HoldingState.Releasing, Message: not null }
        );
        Assert.Contains($"process {pid} ", waiting.Message);
        Assert.Equal("vfio-pci", await Machine.DriverOfAsync(Topology.Nic1));

        await LetGoAsync();
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }

    [ClusterFact]
    public async Task A_device_whose_unbinding_the_kernel_holds_up_is_quarantined_and_holds_up_nothing_else()
    {
        ClaimDevice device = await ClaimNicAsync("nic");
        // Open, and no process has it: only the kernel knows, and lets nobody unbind it.
        await HoldOpenAsync("hide", device.IommuGroup.ToString(), device.Address);
        await Cluster.Client.DeleteAsync<PassthroughClaim>("nic", "default");
        await WaitUntilWorkWaitsInAsync("vfio");

        // Another claim comes and goes meanwhile.
        await Cluster.OfferAsync("dual", new() { VendorId = "8086", ProductId = "10d3" }, DualNic);
        await Cluster.ClaimAsync("dual", "dual");
        await Cluster.WaitUntilReadyAsync("dual");
        await Cluster.ReleaseAsync("dual");

        AssignmentStatus stuck = await Cluster.WaitForAssignmentAsync(
            "nic",
            assignment => assignment is { State: HoldingState.Stuck, Reason: "WriteBlocked" }
        );
        Assert.Contains($"unbinding {Topology.Nic1} from vfio-pci", stuck.Message);
        await Cluster.WaitForDeviceAsync(Topology.Nic1, d => d.State != DeviceState.Available);

        // Not even an agent that starts again offers it, or waits for it. The killed one keeps its port as long as its thread.
        await Cluster.KillAgentAsync();
        await Cluster.StartAgentAsync();
        AssignmentStatus inherited = await Cluster.WaitForAssignmentAsync(
            "nic",
            assignment => assignment is { State: HoldingState.Stuck, Reason: "WriteBlocked" } && assignment.Message != stuck.Message
        );
        Assert.Contains(Topology.Nic1, inherited.Message);
        await Cluster.WaitForDeviceAsync(Topology.Nic1, d => d.State != DeviceState.Available);

        await LetGoAsync();
        await Cluster.ReleaseAsync("nic");
        await AssertGivenBackAsync(Topology.Nic1, "igb");
    }
}
