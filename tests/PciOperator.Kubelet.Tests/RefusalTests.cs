using PciOperator.Testing;

namespace PciOperator.Kubelet.Tests;

/// <summary>Nobody gets a device but whom the cluster gave it to, whatever objects say.</summary>
public sealed class RefusalTests
{
    [Fact]
    public Task A_claim_of_another_uid_is_refused() =>
        RefusedAsync("NoSuchClaim", "is another one now", lab => lab.Allocate(lab.Node.Given![0]) with { Uid = "5f1c-other" });

    [Fact]
    public Task A_claim_that_is_not_there_is_refused() =>
        RefusedAsync("NoSuchClaim", "there is no ResourceClaim", _ => new PodClaim("lab", "vm", "5f1c-vm"));

    [Fact]
    public Task A_claim_of_another_namespace_is_refused() =>
        RefusedAsync("OtherNamespace", "which only that namespace may use", lab => Forge(lab, "other", "vm", c => c));

    [Fact]
    public Task A_claim_of_another_name_is_refused() =>
        RefusedAsync("NotOwner", "name vm in the pod's resourceClaims", lab => Forge(lab, "lab", "forged", c => c));

    [Fact]
    public Task A_claim_that_the_passthrough_claim_does_not_own_is_refused() =>
        RefusedAsync("NotOwner", "belongs to the PassthroughClaim", lab => Forge(lab, "lab", "vm", c => c with { OwnerUid = null }));

    [Fact]
    public Task A_claim_that_another_passthrough_claim_owns_is_refused() =>
        RefusedAsync("NotOwner", "belongs to the PassthroughClaim", lab => Forge(lab, "lab", "vm", c => c with { OwnerUid = "u-other" }));

    [Fact]
    public Task A_claim_that_is_not_the_one_that_the_assignment_names_is_refused() =>
        RefusedAsync(
            "NotOwner",
            "are ResourceClaim 5f1c-only's",
            lab =>
            {
                lab.Node.Given![0] = lab.Node.Given[0] with { ResourceClaimUid = "5f1c-only" };
                return lab.Allocate(lab.Node.Given[0]);
            }
        );

    [Fact]
    public async Task The_claim_that_the_assignment_names_gets_its_devices_whatever_its_name_and_owner()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        await lab.ClaimAsync("vm", KubeletLab.Igb);
        lab.Node.Given![0] = lab.Node.Given[0] with { ResourceClaimUid = "5f1c-pool" };
        PodClaim claim = Forge(lab, "lab", "pool-x7k2p", c => c with { Uid = "5f1c-pool", OwnerUid = null });
        lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
    }

    [Fact]
    public Task Devices_that_the_device_plugin_hands_out_are_refused() =>
        RefusedAsync(
            "OtherDelivery",
            "handed out by the device plugin, as pcioperator.io/lab.vm",
            lab =>
            {
                lab.Node.Given![0] = lab.Node.Given[0] with { ResourceName = "pcioperator.io/lab.vm" };
                return lab.Allocate(lab.Node.Given[0]);
            }
        );

    [Fact]
    public Task Devices_of_a_pool_that_was_not_given_to_the_node_are_refused() =>
        RefusedAsync("NotGiven", "no PassthroughClaim's", lab => Forge(lab, "lab", "vm", c => With(c, pool: "claim-u-elsewhere")));

    [Fact]
    public Task Devices_of_two_pools_are_refused() =>
        RefusedAsync(
            "NotGiven",
            "no PassthroughClaim's",
            lab =>
            {
                OfferedClaim second = lab.Give("second", KubeletLab.X520);
                return Forge(lab, "lab", "vm", c => c with { Devices = [.. c.Devices, new("gpu", KubeletLab.Driver, second.Pool, "gpu")] });
            }
        );

    [Fact]
    public Task A_device_for_another_request_is_refused() =>
        RefusedAsync(null, "each for the request of its name", lab => Forge(lab, "lab", "vm", c => With(c, request: "nic")));

    [Fact]
    public Task A_device_that_the_claim_has_not_is_refused() =>
        RefusedAsync(null, "was allocated gpu-7", lab => Forge(lab, "lab", "vm", c => With(c, request: "gpu-7", device: "gpu-7")));

    [Fact]
    public Task A_claim_without_an_allocation_is_refused() =>
        RefusedAsync(
            null,
            "has no device of pcioperator.io allocated",
            lab => Forge(lab, "lab", "vm", c => c with { IsAllocated = false, Devices = [] })
        );

    [Fact]
    public async Task What_other_drivers_allocated_is_their_own()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        await lab.ClaimAsync("vm", KubeletLab.Igb);
        PodClaim claim = Forge(
            lab,
            "lab",
            "vm",
            c => c with { Devices = [.. c.Devices, new("cpu", "cpu.example.com", "node-1", "cpu-3")] }
        );
        Assert.Single((await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim)).Devices);
    }

    [Fact]
    public async Task A_device_that_is_on_another_driver_now_is_refused_until_it_is_back()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        lab.Simulated.Change(KubeletLab.Igb, f => f.Driver = "igb");
        PreparedAnswer answer = await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        Assert.Contains("0000:21:00.0 is on igb, not on a VFIO driver", answer.Error, StringComparison.Ordinal);
        Assert.Empty(lab.Written);
        lab.Simulated.Change(KubeletLab.Igb, f => f.Driver = "vfio-pci");
        lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
    }

    [Fact]
    public async Task A_second_claim_is_refused_while_the_first_is_allocated_and_served_when_that_is_gone()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim first = await lab.ClaimAsync("vm", KubeletLab.Igb);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, first);
        lab.Node.Given![0] = lab.Node.Given[0] with { ResourceClaimUid = "5f1c-second" };
        PodClaim second = Forge(lab, "lab", "second", c => c with { Uid = "5f1c-second" });
        PreparedAnswer refused = await lab.Kubelet.StartPodAsync(KubeletLab.Driver, second);
        Assert.Contains("ResourceClaim lab/vm (5f1c-vm) still has devices", refused.Error, StringComparison.Ordinal);

        // Its pod is gone, and its kubelet never said so.
        lab.Node.Claims["lab/vm"] = lab.Node.Claims["lab/vm"] with
        {
            IsAllocated = false,
        };
        lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, second));
        Assert.DoesNotContain(lab.Written, p => p.Contains("5f1c-vm", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_claim_that_was_made_anew_takes_the_place_of_the_one_before()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim first = await lab.ClaimAsync("vm", KubeletLab.Igb);
        await lab.Kubelet.StartPodAsync(KubeletLab.Driver, first);
        PodClaim second = lab.Allocate(lab.Node.Given![0], uid: "9c2e-vm");
        ContainerDouble container = lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, second));
        Assert.Equal("", await lab.Kubelet.EndPodAsync(KubeletLab.Driver, first));
        Assert.Equal(KubeletLab.Igb, container.AddressOf("vm", "gpu"));
    }

    [Fact]
    public async Task An_api_server_that_is_away_is_said_and_tried_again()
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        PodClaim claim = await lab.ClaimAsync("vm", KubeletLab.Igb);
        lab.Node.Reading = (_, _) => throw new HttpRequestException("connection refused");
        PreparedAnswer answer = await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        Assert.Equal("ResourceClaim lab/vm: it can't be read from the API server: connection refused; it is tried again", answer.Error);
        Assert.Empty(lab.Node.Refusals);
        lab.Node.Reading = null;
        lab.Container(await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim));
    }

    /// <param name="reported">The reason that is reported; null: it is an error, and nobody's doing.</param>
    /// <param name="why">What the kubelet shows.</param>
    /// <param name="make">The ResourceClaim, of a host where 0000:21:00.0 is bound for lab/vm.</param>
    private static async Task RefusedAsync(string? reported, string why, Func<KubeletLab, PodClaim> make)
    {
        await using KubeletLab lab = await KubeletLab.StartAsync();
        lab.Give("vm", KubeletLab.Igb);
        await lab.BindAsync("vm", KubeletLab.Igb);
        PodClaim claim = make(lab);
        PreparedAnswer answer = await lab.Kubelet.StartPodAsync(KubeletLab.Driver, claim);
        Assert.Contains(why, answer.Error, StringComparison.Ordinal);
        Assert.Empty(answer.Devices);
        Assert.Empty(lab.Written);
        Assert.Equal(reported is null ? [] : [reported], lab.Node.Refusals.Select(r => r.Reason));
    }

    private static PodClaim Forge(KubeletLab lab, string ns, string name, Func<AllocatedClaim, AllocatedClaim> change)
    {
        PodClaim real = lab.Allocate(lab.Node.Given![0]);
        AllocatedClaim forged = change(lab.Node.Claims["lab/vm"]);
        lab.Node.Claims.TryRemove("lab/vm", out AllocatedClaim? _);
        if (forged.Uid != real.Uid)
            lab.Node.Claims["lab/vm"] = forged with { Uid = real.Uid };
        lab.Node.Claims[$"{ns}/{name}"] = forged;
        return new PodClaim(ns, name, forged.Uid);
    }

    private static AllocatedClaim With(AllocatedClaim claim, string? request = null, string? pool = null, string? device = null) =>
        claim with
        {
            Devices = [new(request ?? "gpu", KubeletLab.Driver, pool ?? "claim-u-vm", device ?? "gpu")],
        };
}
