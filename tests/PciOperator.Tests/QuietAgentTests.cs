using PciOperator.Api;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>What an agent does when nothing, very much, or something unheard happens.</summary>
[Turns(4)]
public sealed class QuietAgentTests(ITestOutputHelper output)
{
    private const string Node = "node-1";

    [TurnFact]
    public async Task With_a_claim_held_and_nothing_changing_the_host_is_not_even_looked_at()
    {
        await using LabCluster lab = await QuietLabAsync();
        int touched = 0;
        lab.Host(Node).Fault = _ => Interlocked.Increment(ref touched);
        await Task.Delay(TimeSpan.FromSeconds(5));
        Assert.Equal(0, touched);
    }

    [TurnFact]
    public async Task A_thousand_uevents_are_a_few_looks()
    {
        await using LabCluster lab = await QuietLabAsync();
        int looks = 0;
        lab.Host(Node).Fault = a => looks += a is { IsChange: false, Before: true, Path: "/sys/bus/pci/devices" } ? 1 : 0;
        string bridge = lab.Host(Node).Functions[0].Address;
        for (int i = 0; i < 1000; i++)
        {
            lab.Host(Node).Change(bridge, _ => { });
            if (i % 10 == 9)
                await Task.Delay(1);
        }

        await SettledAsync(() => looks);
        output.WriteLine($"1,000 uevents: {looks} scans");
        Assert.InRange(looks, 1, 100);
    }

    [TurnFact]
    public async Task Uevents_that_were_lost_mean_a_look_at_everything()
    {
        await using LabCluster lab = await QuietLabAsync();
        string drive = (await lab.GetAsync("disk"))!.Status!.Devices![0].Address;
        lab.Host(Node).Overrun(() => lab.Host(Node).Remove(drive));
        await lab.UntilAsync(
            "the claim to say so",
            () => lab.GetAsync("disk"),
            c => c.Status!.Conditions.Find(Conditions.Ready) is { Status: "False", Reason: "DeviceGone" }
        );
    }

    [TurnFact]
    public async Task A_release_that_waits_for_a_guest_writes_nothing_while_it_waits()
    {
        await using LabCluster lab = await QuietLabAsync();
        PassthroughClaim claim = (await lab.GetAsync("disk"))!;
        int guest = lab.Host(Node).StartProcess("qemu-system-x86", $"/dev/vfio/{claim.Status!.Devices![0].IommuGroup}");
        await lab.DeleteAsync("disk");
        await lab.UntilAsync(
            "the release to wait",
            () => lab.Client.GetAsync<PciNode>(Node),
            n => n.Status!.Assignments!.Any(a => a.Reason == "InUse")
        );
        int asked = 0;
        lab.Host(Node).Fault = a => asked += a is { IsChange: false, Before: true, Path: "/proc" } ? 1 : 0;
        await Task.Delay(300);
        string version = (await lab.Client.GetAsync<PciNode>(Node))!.Metadata.ResourceVersion;
        await Task.Delay(2500);
        Assert.Equal(version, (await lab.Client.GetAsync<PciNode>(Node))!.Metadata.ResourceVersion);
        output.WriteLine($"asked {asked} times after the guest");
        Assert.InRange(asked, 1, 20);
        lab.Host(Node).StopProcess(guest);
        await lab.GoneAsync("disk");
    }

    private static async Task<LabCluster> QuietLabAsync()
    {
        LabCluster lab = await (await LabCluster.StartAsync(real: false)).WithNodesAsync(1);
        await lab.WithSamplesAsync();
        await lab.ClaimAsync("disk", "nvme:1");
        await lab.ReadyAsync("disk");
        int touched = 0;
        lab.Host(Node).Fault = _ => Interlocked.Increment(ref touched);
        await SettledAsync(() => touched);
        lab.Host(Node).Fault = null;
        return lab;
    }

    /// <summary>Until a count has stood still for a while.</summary>
    private static async Task SettledAsync(Func<int> count)
    {
        for ((int quiet, int last) = (0, -1); quiet < 8; quiet = count() == last ? quiet + 1 : 0)
        {
            last = count();
            await Task.Delay(100);
        }
    }
}
