using System.Diagnostics.CodeAnalysis;

namespace PciOperator.Core.Tests;

/// <summary>
/// Hosts too large to try everything, with an assignment that is known since the claim was made from it: none may be refused, and what is
/// given must be right.
/// </summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
public class PlantedHostTests
{
    [Fact]
    public void A_claim_that_was_made_from_an_assignment_is_never_refused()
    {
        int served = 0;
        int tooComplex = 0;
        int searched = 0;
        Parallel.For(
            0,
            1500,
            seed =>
            {
                var random = new Random(seed);
                (List<NodeDevice> devices, ClaimRequirements? claim) = Planted(random);
                if (claim is null)
                    return;
                long before = Scratch.Mine.Work;
                NodeVerdict verdict = Allocator.TryNode(NodeInventory.Build("n", devices), claim);
                if (Scratch.Mine.Work - before > 100_000)
                    Interlocked.Increment(ref searched);
                if (verdict is NodeVerdict.Served(var allocation))
                {
                    Interlocked.Increment(ref served);
                    string? fault = new BruteForce(devices, [], claim).Fault(allocation);
                    Assert.True(fault is null, $"seed {seed}: {fault}");
                }
                else
                {
                    Interlocked.Increment(ref tooComplex);
                    Assert.True(verdict is NodeVerdict.TooComplex, $"seed {seed}: {verdict}");
                }
            }
        );
        Assert.True(
            served > 1000 && searched > 100 && tooComplex < served / 50,
            $"{served} served, {searched} searched, {tooComplex} too complex"
        );
    }

    // Cards with PFs and VFs of some kinds; some first VFs are in another card's PF's group. Each card is taken whole or by its VFs, and of
    // what is usable then nearly all is asked for.
    private static (List<NodeDevice> Devices, ClaimRequirements? Claim) Planted(Random random)
    {
        int kinds = random.Next(2, 9);
        int cards = random.Next(4, 40);
        int vfs = random.Next(1, 5);
        int links = random.Next(3);
        var devices = new List<NodeDevice>();
        var usable = new List<NodeDevice>();
        bool[] whole = [.. Enumerable.Range(0, cards).Select(_ => random.Next(2) == 0)];
        for (int card = 0; card < cards; card++)
        {
            PciAddress pf = new(0, card, 0, 0);
            NodeDevice function = Device(pf, 0x1000 + random.Next(kinds), DeviceType.Pf, null, card);
            devices.Add(function);
            if (whole[card])
                usable.Add(function);
            for (int v = 0; v < vfs; v++)
            {
                int host =
                    v > 0 || links == 0 ? -1
                    : links == 1 ? card ^ 1
                    : (card + 1) % cards;
                bool linked = host >= 0 && host < cards && host != card;
                NodeDevice vf = Device(
                    new(0, card, 1, v),
                    0x2000 + random.Next(kinds),
                    DeviceType.Vf,
                    pf,
                    linked ? host : 1000 + devices.Count
                );
                devices.Add(vf);
                if (!whole[card] && (!linked || whole[host]))
                    usable.Add(vf);
            }
        }

        int[][] wanted =
        [
            .. Enumerable
                .Range(0, 8)
                .Select(r =>
                    Enumerable.Range(0, kinds).Where(_ => random.Next(2) == 0).Select(k => (r < 4 ? 0x1000 : 0x2000) + k).ToArray()
                ),
        ];
        int[] counts = new int[8];
        foreach (NodeDevice d in usable.Where(_ => random.Next(20) > 0))
        {
            int[] fitting = [.. Enumerable.Range(0, 8).Where(r => counts[r] < 16 && wanted[r].Contains(d.Function.ProductId.Value))];
            if (fitting.Length > 0)
                counts[fitting[random.Next(fitting.Length)]]++;
        }

        DeviceRequest[] requests =
        [
            .. Enumerable
                .Range(0, 8)
                .Where(r => counts[r] > 0)
                .Select(r => new DeviceRequest
                {
                    Name = $"r{r}",
                    Count = counts[r],
                    Alias = new AliasDefinition
                    {
                        Name = $"a{r}",
                        AnyOf =
                        [
                            .. wanted[r]
                                .Select(p => new AliasSelector
                                {
                                    ProductId = new PciId((ushort)p),
                                    Type = r < 4 ? DeviceType.Pf : DeviceType.Vf,
                                }),
                        ],
                    },
                }),
        ];
        return (
            devices,
            requests.Length == 0
                ? null
                : new ClaimRequirements
                {
                    ClaimUid = "claim",
                    GuestNuma = GuestNuma.None,
                    Requests = requests,
                }
        );
    }

    private static NodeDevice Device(PciAddress address, int product, DeviceType type, PciAddress? parent, int group) =>
        new()
        {
            Function = new PciFunction
            {
                Address = address,
                VendorId = new PciId(0x8086),
                ProductId = new PciId((ushort)product),
                Type = type,
                ParentAddress = parent,
                IommuGroup = group,
            },
            Tags = DeviceTags.None with { Companions = CompanionPolicy.Allow },
        };
}
