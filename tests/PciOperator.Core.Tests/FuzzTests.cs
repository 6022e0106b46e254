using System.Diagnostics.CodeAnalysis;
using System.Text;
using PciOperator.Nova;

namespace PciOperator.Core.Tests;

/// <summary>
/// A million inputs for each parser (or, in the quick run, 50,000 others each time), seeded: each is read or refused with the declared
/// error, nothing else.
/// </summary>
[SuppressMessage("Security", "CA5394", Justification = "Seeded on purpose.")]
[Trait("Cases", "Many")]
public class FuzzTests
{
    private const int Inputs = 1_000_000;

    private static readonly string[] Specs =
    [
        """{"vendor_id": "8086", "product_id": "10ca", "address": "0000:81:00.1", "physical_network": "net1", "trusted": "true"}""",
        """[{"address": {"domain": "0000", "bus": "8[1-3]", "slot": ".*", "function": "[0-7]"}}, {"devname": "eth0", "managed": "no"}]""",
        """{"address": "*:81:*.*", "resource_class": "my class", "traits": "a, b", "live_migratable": true, "one_time_use": "yes"}""",
        """{"vendor_id": "0x8086", "remote_managed": "true", "x": [1, {"y": null}], "numa_node": 5}""",
    ];

    private static readonly string[] Aliases =
    [
        """{"name": "a1", "vendor_id": "8086", "product_id": "10ca", "device_type": "type-VF", "numa_policy": "preferred"}""",
        """{"name": "a2", "capability_type": "pci", "resource_class": "CUSTOM_A16", "traits": "big, blue", "live_migratable": "yes"}""",
    ];

    private static readonly string[] Addresses = ["0000:21:00.0", "10000:e1:1f.7", "*:81:.", ":00.", "81:00.*", "0a", ".1", "0000:0:a:0.0"];

    private static readonly string[] Requests = ["a1:2,a2:1", "a1:1 , a2:16", "gpu big:3", "a1:1,a1:1", "a:99999999999"];

    private static readonly string[] Patterns =
    [
        "8[1-3]",
        ".*",
        "0[0-9a-f]",
        "(?P<a>8)1",
        "(1|2)+",
        "^0{1,4}$",
        "[^a-f]*?",
        @"\d\Z",
        "(?=8)8",
        "8{,2}",
        "[0-7]",
    ];

    private const string Alphabet = "0123456789abcdefxX*.:,-_ {}[]\"'\\()?+|^$#tnullrueé\u0661\u2028\0\ud800";

    [Fact]
    public void Addresses_and_ids() =>
        Fuzz(
            1,
            Addresses,
            text =>
            {
                if (PciAddress.TryParse(text, out PciAddress address) && PciAddress.Parse(address.ToString()) != address)
                    throw new InvalidOperationException("An address does not survive being written and read.");
                if (PciId.TryParse(text, out PciId id) && PciId.Parse(id.ToString()) != id)
                    throw new InvalidOperationException("An id does not survive being written and read.");
                AddressGlob.Parse(text).Matches(new PciAddress(0, 0x81, 0, 1));
            }
        );

    [Fact]
    public void Device_specs() => Fuzz(2, Specs, text => NovaDeviceSpec.Parse(text));

    [Fact]
    public void Selectors_by_field() =>
        Fuzz(
            3,
            [.. Addresses, "8086", "*", "0300", "eth0"],
            text =>
            {
                DeviceSelector.Parse(new DeviceSelectorFields { VendorId = text });
                DeviceSelector.Parse(new DeviceSelectorFields { ClassCode = text, DeviceName = text });
                DeviceSelector.Parse(new DeviceSelectorFields { Address = text, ProductId = text });
            }
        );

    // A further 200,000 by themselves, since compiling an expression takes some 70 µs; those of a million device specs come on top.
    [Fact]
    public void Address_patterns() =>
        Fuzz(
            4,
            Patterns,
            text => AddressPattern.Parse(new AddressPatternFields(Bus: text)).Matches(new PciAddress(0, 0x81, 0, 1)),
            Inputs / 5
        );

    [Fact]
    public void Alias_definitions() => Fuzz(5, Aliases, text => NovaAlias.Join([NovaAlias.Parse(text)]));

    [Fact]
    public void Request_strings() =>
        Fuzz(
            6,
            Requests,
            text =>
            {
                foreach (NovaRequest request in NovaRequestString.Parse(text))
                {
                    if (request.Count < 1)
                        throw new InvalidOperationException("A count below 1 was accepted.");
                }
            }
        );

    private static void Fuzz(int seed, string[] seeds, Action<string> parse, int inputs = Inputs)
    {
        int accepted = 0;
        int refused = 0;
        inputs = TestScope.Cases(inputs, 40);
        int first = TestScope.All ? 0 : TestScope.Seed * 1000;
        Parallel.For(
            0,
            8,
            part =>
            {
                var random = new Random(first + (seed * 100) + part);
                var text = new StringBuilder();
                for (int i = 0; i < inputs / 8; i++)
                {
                    Mutate(random, text, seeds);
                    string input = text.ToString();
                    try
                    {
                        parse(input);
                        Interlocked.Increment(ref accepted);
                    }
                    catch (SpecFormatException e)
                    {
                        if (e.Message.Length is 0 or > 1000)
                            throw new InvalidOperationException($"A poor error for '{input}': {e.Field}: {e.Message}", e);
                        Interlocked.Increment(ref refused);
                    }
                    catch (Exception e)
                    {
                        throw new InvalidOperationException($"'{input}' gave {e.GetType().Name}: {e.Message}", e);
                    }
                }
            }
        );
        Assert.Equal(inputs, accepted + refused);
        // Both happen often, or the inputs test nothing.
        Assert.True(accepted > inputs / 200 && refused > inputs / 200, $"{accepted} accepted, {refused} refused");
    }

    // A good text with a few characters changed, dropped, doubled or moved; now and then nothing but noise.
    private static void Mutate(Random random, StringBuilder text, string[] seeds)
    {
        text.Clear();
        if (random.Next(16) == 0)
        {
            for (int n = random.Next(40); n > 0; n--)
                text.Append(Alphabet[random.Next(Alphabet.Length)]);
            return;
        }

        text.Append(seeds[random.Next(seeds.Length)]);
        for (int n = random.Next(4); n > 0 && text.Length > 0; n--)
        {
            int at = random.Next(text.Length);
            switch (random.Next(5))
            {
                case 0:
                    text[at] = Alphabet[random.Next(Alphabet.Length)];
                    break;
                case 1:
                    text.Remove(at, Math.Min(random.Next(1, 4), text.Length - at));
                    break;
                case 2:
                    text.Insert(at, Alphabet[random.Next(Alphabet.Length)]);
                    break;
                case 3:
                    text.Insert(at, text.ToString(at, Math.Min(random.Next(1, 9), text.Length - at)));
                    break;
                default:
                    string other = seeds[random.Next(seeds.Length)];
                    int from = random.Next(other.Length);
                    text.Length = at;
                    text.Append(other, from, other.Length - from);
                    break;
            }
        }
    }
}
