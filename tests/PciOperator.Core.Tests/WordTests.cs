using System.Text.Json;
using System.Text.Json.Serialization;

namespace PciOperator.Core.Tests;

/// <summary>A value has one word, whether it is read in a resource or said in a sentence.</summary>
public class WordTests
{
    private static readonly JsonSerializerOptions Resources = new() { Converters = { new JsonStringEnumConverter() } };

    [Fact]
    public void A_resource_spells_what_Nova_has_a_word_for_as_Nova_does()
    {
        Assert.All(Enum.GetValues<DeviceType>(), t => Assert.Equal(t.ToNova(), Written(t)));
        Assert.All(Enum.GetValues<NumaPolicy>(), p => Assert.Equal(p.ToNova(), Written(p)));
        Assert.All(Enum.GetValues<DeviceState>(), s => Assert.Equal(s.ToNova(), Written(s)));
        Assert.All(Enum.GetValues<DeviceType>(), t => Assert.Equal(t, NovaWords.ParseDeviceType(Written(t))));
        Assert.All(Enum.GetValues<NumaPolicy>(), p => Assert.Equal(p, NovaWords.ParseNumaPolicy(Written(p))));
    }

    private static string Written<T>(T value) => JsonSerializer.Deserialize<string>(JsonSerializer.Serialize(value, Resources))!;
}
