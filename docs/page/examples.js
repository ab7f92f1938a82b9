/* The images in the folder examples, which examples/README.md of the repository describes. */

export const EXAMPLES = {
  content: [
    { name: "astronaut", title: "An astronaut" },
    { name: "chelsea", title: "A cat" },
    { name: "coffee", title: "A cup of coffee" },
    { name: "rocket", title: "A rocket" },
    { name: "summer_palace", title: "The Summer Palace in Beijing" },
  ],
  style: [
    { name: "starry_night", title: "The Starry Night", painter: "Vincent van Gogh" },
    { name: "wave", title: "The Great Wave", painter: "Hokusai" },
    { name: "the_scream", title: "The Scream", painter: "Edvard Munch" },
    { name: "composition_vii", title: "Composition VII", painter: "Wassily Kandinsky" },
    { name: "shipwreck", title: "The Wreck of a Transport Ship", painter: "J. M. W. Turner" },
  ],
};
