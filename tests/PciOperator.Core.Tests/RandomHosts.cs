using System.Diagnostics.CodeAnalysis;

namespace PciOperator.Core.Tests;

/// <summary>Seeded random hosts and claims: small, crowded and full of corner cases, so that a brute-force search can judge them.</summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
internal sealed class RandomHosts(int seed)
{
    private static readonly PciId[] Vendors = [PciId.Parse("8086"), PciId.Parse("10de")];
    private static readonly PciId[] Products = [PciId.Parse("10c9"), PciId.Parse("10ca"), PciId.Parse("1e04"), PciId.Parse("0a54")];

    private readonly Random _random = new(seed);

    public List<NodeDevice> Devices(out Dictionary<int, int?> sockets)
    {
        int nodes = _random.Next(1, 4);
        sockets = [];
        for (int n = 0; n < nodes; n++)
            sockets[n] = Chance(12) ? null : n / 2;
        var devices = new List<NodeDevice>();
        int group = 0;
        int slots = _random.Next(2, 6);
        bool shareGroups = Chance(3);
        for (int slot = 0; slot < slots && devices.Count < 10; slot++)
        {
            int? numa = Chance(5) ? null : _random.Next(nodes);
            int? Group() =>
                Chance(40) ? null
                : shareGroups && Chance(3) && group > 0 ? _random.Next(group)
                : group++;
            int kind = _random.Next(4);
            PciId vendor = Pick(Vendors);
            if (kind == 0)
            {
                var pf = new PciAddress(0, 1 + slot, 0, 0);
                PciId product = Pick(Products);
                bool hidden = Chance(10);
                if (!hidden || Chance(2))
                    devices.Add(Device(pf, vendor, product, DeviceType.Pf, null, numa, Group(), hidden));
                PciId vfProduct = Pick(Products);
                for (int vf = _random.Next(4); vf > 0; vf--)
                {
                    devices.Add(
                        Device(
                            new PciAddress(0, 1 + slot, 16, vf),
                            vendor,
                            Chance(6) ? Pick(Products) : vfProduct,
                            Chance(10) ? DeviceType.Vdpa : DeviceType.Vf,
                            pf,
                            numa,
                            Group(),
                            Chance(20)
                        )
                    );
                }
            }
            else if (kind == 1)
            {
                int? shared = group++;
                for (int function = _random.Next(1, 5); function > 0; function--)
                {
                    devices.Add(
                        Device(
                            new PciAddress(0, 1 + slot, 0, function - 1),
                            vendor,
                            Pick(Products),
                            DeviceType.Pci,
                            null,
                            numa,
                            shared,
                            Chance(15)
                        )
                    );
                }

                if (Chance(4))
                {
                    devices.Add(
                        Device(new PciAddress(0, 1 + slot, 31, 0), vendor, Pick(Products), DeviceType.Pci, null, numa, shared, true) with
                        {
                            Function = new PciFunction
                            {
                                Address = new PciAddress(0, 1 + slot, 31, 0),
                                VendorId = vendor,
                                ProductId = Products[0],
                                IsBridge = true,
                                IommuGroup = shared,
                            },
                        }
                    );
                }
            }
            else
            {
                devices.Add(
                    Device(
                        new PciAddress(0, 1 + slot, 0, 0),
                        vendor,
                        Pick(Products),
                        Chance(8) ? DeviceType.Pf : DeviceType.Pci,
                        null,
                        numa,
                        Group(),
                        Chance(12)
                    )
                );
            }
        }

        return devices;
    }

    public ClaimRequirements Claim()
    {
        List<AliasDefinition> aliases = [.. Enumerable.Range(1, _random.Next(1, 4)).Select(i => Alias($"a{i}"))];
        var requests = new List<DeviceRequest>();
        int units = 0;
        for (int i = _random.Next(1, 4); i > 0 && units < 5; i--)
        {
            int count = Chance(2) ? 1 : _random.Next(1, 4);
            units += count;
            requests.Add(
                new DeviceRequest
                {
                    Name = $"r{i}",
                    Alias = Pick(aliases),
                    Count = count,
                    NumaPolicy = Chance(8) ? (NumaPolicy)_random.Next(4) : null,
                }
            );
        }

        return new ClaimRequirements
        {
            ClaimUid = "claim",
            Requests = requests,
            NumaPolicy = Chance(4) ? (NumaPolicy)_random.Next(4) : null,
            GuestNuma = _random.Next(4) switch
            {
                0 => GuestNuma.None,
                1 => GuestNuma.On(Enumerable.Range(0, 3).Where(_ => Chance(2))),
                _ => GuestNuma.Unknown,
            },
        };
    }

    public void Shuffle<T>(List<T> list)
    {
        for (int i = list.Count - 1; i > 0; i--)
        {
            int j = _random.Next(i + 1);
            (list[i], list[j]) = (list[j], list[i]);
        }
    }

    public bool Chance(int oneIn) => _random.Next(oneIn) == 0;

    private NodeDevice Device(
        PciAddress address,
        PciId vendor,
        PciId product,
        DeviceType type,
        PciAddress? parent,
        int? numa,
        int? group,
        bool unmatched
    ) =>
        new()
        {
            Function = new PciFunction
            {
                Address = address,
                VendorId = vendor,
                ProductId = product,
                Type = type,
                ParentAddress = parent,
                NumaNode = numa,
                IommuGroup = group,
            },
            Tags = unmatched
                ? null
                : new DeviceTags
                {
                    Companions = Chance(2) ? CompanionPolicy.Allow : CompanionPolicy.Refuse,
                    LiveMigratable = Chance(4) ? Chance(2) : null,
                    RemoteManaged = Chance(15),
                    PhysicalNetwork = Chance(6) ? "net1" : null,
                },
            Owner = Chance(20) ? "other" : null,
            BlockedReason = Chance(40) ? "it holds the root file system" : null,
            BlocksPf = type != DeviceType.Vf || !Chance(2),
        };

    private AliasDefinition Alias(string name) =>
        new()
        {
            Name = name,
            AnyOf =
            [
                .. Enumerable
                    .Range(0, _random.Next(1, 4))
                    .Select(_ => new AliasSelector
                    {
                        VendorId = Chance(4) ? Pick(Vendors) : null,
                        ProductId = Chance(3) ? Pick(Products) : null,
                        Type = _random.Next(6) switch
                        {
                            0 or 1 => DeviceType.Pf,
                            2 => DeviceType.Vf,
                            3 when Chance(4) => DeviceType.Vdpa,
                            _ => null,
                        },
                        RemoteManaged = Chance(20) ? true : null,
                        PhysicalNetwork = Chance(20) ? "NET1" : null,
                    }),
            ],
            NumaPolicy = (NumaPolicy)_random.Next(4),
            LiveMigratable = Chance(30) ? Chance(2) : null,
        };

    private T Pick<T>(IReadOnlyList<T> list) => list[_random.Next(list.Count)];
}
