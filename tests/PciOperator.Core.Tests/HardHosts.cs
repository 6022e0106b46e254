using System.Diagnostics.CodeAnalysis;

namespace PciOperator.Core.Tests;

/// <summary>
/// A host and a claim built to be hard to decide, within what the resources allow: 8 requests, counts to 16, any-of to 16, 1,024
/// devices. It can be changed a little at a time, so that a search can climb to harder ones.
/// </summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
internal sealed class HardHosts
{
    public const int MostDevices = 1024;
    public const int Kinds = 16;

    private readonly List<Card> cards = [];
    private readonly int[] masks = new int[8];
    private readonly int[] counts = new int[8];
    private readonly NumaPolicy[] policies = new NumaPolicy[8];
    private int pfRequests;
    private GuestNuma guest = GuestNuma.None;

    private enum Links
    {
        None,
        Ring,
        Pairs,
        Random,
    }

    /// <summary>A family's host: which features it has follows from its number.</summary>
    public static HardHosts Of(int family, int seed)
    {
        var random = new Random((family * 100_003) + seed);
        var host = new HardHosts { pfRequests = random.Next(1, 8) };
        int kinds = (family & 1) == 0 ? random.Next(2, 5) : Kinds;
        int vfs = random.Next(1, 9);
        int cardCount = Math.Min(random.Next(6, 130), MostDevices / (vfs + 2));
        var links = (Links)(family >> 1 & 3);
        bool companions = (family & 8) != 0;
        bool numa = (family & 16) != 0;
        bool mixed = random.Next(2) == 0;
        for (int i = 0; i < cardCount; i++)
        {
            int vfKind = random.Next(kinds);
            host.cards.Add(new Card(
                random.Next(kinds),
                [.. Enumerable.Range(0, vfs).Select(_ => mixed ? random.Next(kinds) : vfKind)],
                links switch { Links.Ring => (i + 1) % cardCount, Links.Pairs => i ^ 1, Links.Random when random.Next(2) == 0 => random.Next(cardCount), _ => -1 },
                companions && random.Next(2) == 0 ? random.Next(kinds) : -1,
                numa ? random.Next(4) : 0));
        }
        for (int r = 0; r < 8; r++)
        {
            host.masks[r] = random.Next(1, 1 << kinds);
            if (random.Next(2) == 0)
                host.masks[r] &= random.Next(1, 1 << kinds);
            host.masks[r] |= 1 << random.Next(kinds);
            host.policies[r] = numa ? (NumaPolicy)random.Next(4) : NumaPolicy.Legacy;
        }
        host.guest = numa ? GuestNuma.Unknown : GuestNuma.None;
        host.Plant(random);
        return host;
    }

    /// <summary>A copy with one thing changed.</summary>
    public HardHosts Mutate(Random random)
    {
        var other = new HardHosts { pfRequests = pfRequests, guest = guest };
        masks.CopyTo(other.masks, 0);
        counts.CopyTo(other.counts, 0);
        policies.CopyTo(other.policies, 0);
        other.cards.AddRange(cards);
        int at = random.Next(8);
        switch (random.Next(7))
        {
            case 0:
                other.masks[at] = Math.Max(1, other.masks[at] ^ (1 << random.Next(Kinds)));
                break;
            case 1 or 2:
                other.counts[at] = Math.Clamp(other.counts[at] + (random.Next(2) * 2) - 1, 1, 16);
                break;
            case 3 when cards.Count > 2:
                other.cards.RemoveAt(random.Next(cards.Count));
                break;
            case 4 when other.Devices + 10 <= MostDevices:
                other.cards.Add(cards[random.Next(cards.Count)]);
                break;
            case 5:
                int card = random.Next(cards.Count);
                other.cards[card] = cards[card] with { Pf = random.Next(Kinds), Vfs = [.. cards[card].Vfs.Select(v => random.Next(4) == 0 ? random.Next(Kinds) : v)] };
                break;
            default:
                other.Plant(random);
                break;
        }
        return other;
    }

    public NodeInventory Node()
    {
        var devices = new List<NodeDevice>();
        for (int i = 0; i < cards.Count; i++)
        {
            Card card = cards[i];
            PciAddress pf = Pf(i);
            devices.Add(Device(pf, 0x1000 + card.Pf, DeviceType.Pf, null, card.Numa, i));
            if (card.Companion >= 0)
                devices.Add(Device(new PciAddress(0, pf.Bus, pf.Slot, 7), 0x1000 + card.Companion, DeviceType.Pci, null, card.Numa, i));
            for (int v = 0; v < card.Vfs.Length; v++)
            {
                // The first VF sits in another card's group, where there are links.
                int group = v == 0 && card.Link >= 0 && card.Link < cards.Count ? card.Link : 1000 + devices.Count;
                devices.Add(Device(new PciAddress(1, pf.Bus, pf.Slot, v), 0x2000 + card.Vfs[v], DeviceType.Vf, pf, card.Numa, group));
            }
        }
        return NodeInventory.Build("n", devices, new Dictionary<int, int?> { [0] = 0, [1] = 0, [2] = 1, [3] = 1 });
    }

    public ClaimRequirements Claim() => new()
    {
        ClaimUid = "claim",
        GuestNuma = guest,
        Requests = [.. Enumerable.Range(0, 8).Select(r => new DeviceRequest
        {
            Name = $"r{r}",
            Count = counts[r],
            NumaPolicy = policies[r],
            Alias = new AliasDefinition { Name = $"a{r}", AnyOf = [.. Enumerable.Range(0, Kinds).Where(k => (masks[r] >> k & 1) != 0).SelectMany(k => Selectors(r, k))] },
        })],
    };

    private int Devices => cards.Sum(c => c.Vfs.Length + (c.Companion >= 0 ? 2 : 1));

    private IEnumerable<AliasSelector> Selectors(int request, int kind)
    {
        if (request >= pfRequests)
            return [new AliasSelector { ProductId = new PciId((ushort)(0x2000 + kind)), Type = DeviceType.Vf }];
        // A companion is any-of's PCI device; without a kind to spare the PF alone.
        AliasSelector pf = new() { ProductId = new PciId((ushort)(0x1000 + kind)), Type = DeviceType.Pf };
        return kind % 2 == 0 && System.Numerics.BitOperations.PopCount((uint)masks[request]) <= 8 ? [pf, pf with { Type = DeviceType.Pci }] : [pf];
    }

    // Counts that some random choice of modes just meets, give or take one.
    private void Plant(Random random)
    {
        Array.Clear(counts);
        foreach (Card card in cards)
        {
            bool whole = random.Next(2) == 0;
            foreach (int kind in whole ? [card.Pf] : card.Vfs)
            {
                int[] fitting = [.. Enumerable.Range(0, 8).Where(r => r < pfRequests == whole && counts[r] < 16 && (masks[r] >> kind & 1) != 0)];
                if (fitting.Length > 0)
                    counts[fitting[random.Next(fitting.Length)]]++;
            }
        }
        for (int r = 0; r < 8; r++)
            counts[r] = Math.Clamp(counts[r], 1, 16);
        int more = random.Next(8);
        counts[more] = Math.Clamp(counts[more] + random.Next(-1, 2), 1, 16);
    }

    private static PciAddress Pf(int i) => new(0, i / 32, i % 32, 0);

    private static NodeDevice Device(PciAddress address, int product, DeviceType type, PciAddress? parent, int numa, int group) => new()
    {
        Function = new PciFunction
        {
            Address = address,
            VendorId = new PciId(0x8086),
            ProductId = new PciId((ushort)product),
            Type = type,
            ParentAddress = parent,
            NumaNode = numa,
            IommuGroup = group,
        },
        Tags = DeviceTags.None with { Companions = CompanionPolicy.Allow },
    };

    private sealed record Card(int Pf, int[] Vfs, int Link, int Companion, int Numa);
}
