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

    private readonly List<Card> _cards = [];
    private readonly int[] _masks = new int[8];
    private readonly int[] _counts = new int[8];
    private readonly NumaPolicy[] _policies = new NumaPolicy[8];
    private int _pfRequests;
    private GuestNuma _guest = GuestNuma.None;

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
        var host = new HardHosts { _pfRequests = random.Next(1, 8) };
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
            host._cards.Add(
                new Card(
                    random.Next(kinds),
                    [.. Enumerable.Range(0, vfs).Select(_ => mixed ? random.Next(kinds) : vfKind)],
                    links switch
                    {
                        Links.Ring => (i + 1) % cardCount,
                        Links.Pairs => i ^ 1,
                        Links.Random when random.Next(2) == 0 => random.Next(cardCount),
                        _ => -1,
                    },
                    companions && random.Next(2) == 0 ? random.Next(kinds) : -1,
                    numa ? random.Next(4) : 0
                )
            );
        }

        for (int r = 0; r < 8; r++)
        {
            host._masks[r] = random.Next(1, 1 << kinds);
            if (random.Next(2) == 0)
                host._masks[r] &= random.Next(1, 1 << kinds);
            host._masks[r] |= 1 << random.Next(kinds);
            host._policies[r] = numa ? (NumaPolicy)random.Next(4) : NumaPolicy.Legacy;
        }

        host._guest = numa ? GuestNuma.Unknown : GuestNuma.None;
        host.Plant(random);
        return host;
    }

    /// <summary>A copy with one thing changed.</summary>
    public HardHosts Mutate(Random random)
    {
        var other = new HardHosts { _pfRequests = _pfRequests, _guest = _guest };
        _masks.CopyTo(other._masks, 0);
        _counts.CopyTo(other._counts, 0);
        _policies.CopyTo(other._policies, 0);
        other._cards.AddRange(_cards);
        int at = random.Next(8);
        switch (random.Next(7))
        {
            case 0:
                other._masks[at] = Math.Max(1, other._masks[at] ^ (1 << random.Next(Kinds)));
                break;
            case 1 or 2:
                other._counts[at] = Math.Clamp(other._counts[at] + (random.Next(2) * 2) - 1, 1, 16);
                break;
            case 3 when _cards.Count > 2:
                other._cards.RemoveAt(random.Next(_cards.Count));
                break;
            case 4 when other.Devices + 10 <= MostDevices:
                other._cards.Add(_cards[random.Next(_cards.Count)]);
                break;
            case 5:
                int card = random.Next(_cards.Count);
                other._cards[card] = _cards[card] with
                {
                    Pf = random.Next(Kinds),
                    Vfs = [.. _cards[card].Vfs.Select(v => random.Next(4) == 0 ? random.Next(Kinds) : v)],
                };
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
        for (int i = 0; i < _cards.Count; i++)
        {
            Card card = _cards[i];
            PciAddress pf = Pf(i);
            devices.Add(Device(pf, 0x1000 + card.Pf, DeviceType.Pf, null, card.Numa, i));
            if (card.Companion >= 0)
                devices.Add(Device(new PciAddress(0, pf.Bus, pf.Slot, 7), 0x1000 + card.Companion, DeviceType.Pci, null, card.Numa, i));
            for (int v = 0; v < card.Vfs.Length; v++)
            {
                // The first VF sits in another card's group, where there are links.
                int group = v == 0 && card.Link >= 0 && card.Link < _cards.Count ? card.Link : 1000 + devices.Count;
                devices.Add(Device(new PciAddress(1, pf.Bus, pf.Slot, v), 0x2000 + card.Vfs[v], DeviceType.Vf, pf, card.Numa, group));
            }
        }

        return NodeInventory.Build(
            "n",
            devices,
            new Dictionary<int, int?>
            {
                [0] = 0,
                [1] = 0,
                [2] = 1,
                [3] = 1,
            }
        );
    }

    public ClaimRequirements Claim() =>
        new()
        {
            ClaimUid = "claim",
            GuestNuma = _guest,
            Requests =
            [
                .. Enumerable
                    .Range(0, 8)
                    .Select(r => new DeviceRequest
                    {
                        Name = $"r{r}",
                        Count = _counts[r],
                        NumaPolicy = _policies[r],
                        Alias = new AliasDefinition
                        {
                            Name = $"a{r}",
                            AnyOf = [.. Enumerable.Range(0, Kinds).Where(k => (_masks[r] >> k & 1) != 0).SelectMany(k => Selectors(r, k))],
                        },
                    }),
            ],
        };

    private int Devices => _cards.Sum(c => c.Vfs.Length + (c.Companion >= 0 ? 2 : 1));

    private IEnumerable<AliasSelector> Selectors(int request, int kind)
    {
        if (request >= _pfRequests)
            return [new AliasSelector { ProductId = new PciId((ushort)(0x2000 + kind)), Type = DeviceType.Vf }];
        // A companion is any-of's PCI device; without a kind to spare the PF alone.
        AliasSelector pf = new() { ProductId = new PciId((ushort)(0x1000 + kind)), Type = DeviceType.Pf };
        return kind % 2 == 0 && System.Numerics.BitOperations.PopCount((uint)_masks[request]) <= 8
            ? [pf, pf with { Type = DeviceType.Pci }]
            : [pf];
    }

    // Counts that some random choice of modes just meets, give or take one.
    private void Plant(Random random)
    {
        Array.Clear(_counts);
        foreach (Card card in _cards)
        {
            bool whole = random.Next(2) == 0;
            foreach (int kind in whole ? [card.Pf] : card.Vfs)
            {
                int[] fitting =
                [
                    .. Enumerable.Range(0, 8).Where(r => r < _pfRequests == whole && _counts[r] < 16 && (_masks[r] >> kind & 1) != 0),
                ];
                if (fitting.Length > 0)
                    _counts[fitting[random.Next(fitting.Length)]]++;
            }
        }

        for (int r = 0; r < 8; r++)
            _counts[r] = Math.Clamp(_counts[r], 1, 16);
        int more = random.Next(8);
        _counts[more] = Math.Clamp(_counts[more] + random.Next(-1, 2), 1, 16);
    }

    private static PciAddress Pf(int i) => new(0, i / 32, i % 32, 0);

    private static NodeDevice Device(PciAddress address, int product, DeviceType type, PciAddress? parent, int numa, int group) =>
        new()
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
